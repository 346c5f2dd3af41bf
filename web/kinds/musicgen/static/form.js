// Plays the chosen clips before the form is sent. Without this script, clips are chosen without hearing them.

const form = document.querySelector("form[enctype]");
const file = form.elements.namedItem("file");
const players = document.querySelector("#players");

function makeButton(title, player, field) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "btn btn-sm btn-outline-secondary";
  button.textContent = title;
  button.addEventListener("click", () => {
    form.elements.namedItem(field).value = player.currentTime.toFixed(2);
  });
  return button;
}

function makePlayer(clip) {
  const player = document.createElement("audio");
  player.controls = true;
  player.src = URL.createObjectURL(clip);
  player.setAttribute("aria-label", clip.name);
  const buttons = document.createElement("div");
  buttons.className = "d-flex flex-wrap gap-2";
  buttons.append(makeButton("Set start", player, "start_s"), makeButton("Set end", player, "end_s"));
  const name = document.createElement("div");
  name.className = "small break";
  name.textContent = clip.name;
  const box = document.createElement("div");
  box.className = "stack gap-1";
  box.append(name, player, buttons);
  return box;
}

function showPlayers() {
  for (const player of players.querySelectorAll("audio")) URL.revokeObjectURL(player.src);
  players.replaceChildren(...Array.from(file.files, makePlayer));
}

file.addEventListener("change", showPlayers);
showPlayers(); // browsers keep the chosen files over a reload

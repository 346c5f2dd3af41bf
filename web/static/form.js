// Shows what a form's files hold before the form is sent. Without this, the button shows a table, and clips are chosen unheard.

const form = document.querySelector("form[enctype]");
const file = form.elements.namedItem("file");
const look = form.elements.namedItem("look");
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
  buttons.append(makeButton("Continue from here", player, "start_s"), makeButton("Up to here", player, "end_s"));
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

file.addEventListener("change", () => {
  if (players) showPlayers();
  else if (file.files.length) form.requestSubmit(look);
});
// A table whose first row turns out to be its header, or not, is read anew.
form.elements.namedItem("header")?.addEventListener("change", () => {
  if (form.elements.namedItem("upload")) form.requestSubmit(look);
});
if (players) showPlayers(); // the browser may have kept the choice over a reload

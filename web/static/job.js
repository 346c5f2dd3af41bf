// Keeps a job's page true while the job goes on: events say when to look again; without them it looks every few seconds.
// What is shown is always the server's page, so nothing can be missed for long, whatever was cut, slept or restarted.

const LOOK_EVERY_MS = 3000;
const REST_MS = 400; // between two looks, however many events come
const SETTLING = ["state", "actions", "live"];

let looking = false;
let stale = false;

function replace(id, page) {
  const [old, fresh] = [document, page].map((where) => where.getElementById(id));
  if (old && fresh && old.innerHTML !== fresh.innerHTML) old.innerHTML = fresh.innerHTML;
}

async function look() {
  if (looking) {
    stale = true;
    return;
  }
  looking = true;
  try {
    const answer = await fetch(location.pathname, { headers: { Accept: "text/html" } });
    if (answer.redirected || answer.status === 404) location.reload(); // signed out, or deleted
    if (answer.ok) show(new DOMParser().parseFromString(await answer.text(), "text/html"));
  } catch {
    // The server is away; the next look will tell.
  }
  await new Promise((resolve) => setTimeout(resolve, REST_MS));
  looking = false;
  if (stale) {
    stale = false;
    look();
  }
}

function show(page) {
  if (page.getElementById("live")) {
    SETTLING.forEach((id) => replace(id, page));
    return;
  }
  if (!document.getElementById("live")) return;
  end();
  replace("state", page); // announced, as it stays where it is
  const state = document.getElementById("state");
  document.title = page.title;
  document.querySelector("main").replaceWith(page.querySelector("main"));
  document.getElementById("state").replaceWith(state);
}

let events;
let timer;

function listen() {
  const live = document.getElementById("live");
  if (!live) return;
  events = new EventSource(live.dataset.events);
  for (const kind of ["state", "progress", "artifact"]) events.addEventListener(kind, look);
  events.addEventListener("error", () => {
    look();
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, LOOK_EVERY_MS);
  });
}

function end() {
  events?.close();
  clearInterval(timer);
}

timer = setInterval(() => {
  if (events?.readyState !== EventSource.OPEN) look();
}, LOOK_EVERY_MS);
for (const name of ["online", "pageshow"]) window.addEventListener(name, look);
document.addEventListener("visibilitychange", () => document.hidden || look());
listen();

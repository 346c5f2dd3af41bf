// Keeps a job's page true while the job goes on: events say when to look again; without them it looks every few seconds.
// What is shown is always the server's page, so nothing can be missed for long, whatever was cut, slept or restarted.

const LOOK_EVERY_MS = 3000;
const LOOK_ANYWAY_MS = 30_000; // a stream that was cut in silence still seems open
const GIVE_UP_MS = 10_000;
const REST_MS = 400; // between two looks, however many events come
const LIVE = ["state", "actions", "live", "facts"];
const ENDED = ["state", "actions", "outcome", "facts"];

let events;
let looking = false;
let stale = false;
let lookedAt = Date.now();

const isOver = () => !document.getElementById("live");

// Told apart by their text, since the tokens in forms are never the same.
function replace(id, page) {
  const [old, fresh] = [document, page].map((where) => where.getElementById(id));
  if (old.textContent === fresh.textContent) return;
  const focused = old.contains(document.activeElement);
  old.innerHTML = fresh.innerHTML;
  if (focused) document.getElementById("main").focus({ preventScroll: true }); // or Tab would begin at the top
}

function show(page) {
  const ended = !page.getElementById("live");
  for (const id of ended ? ENDED : LIVE) replace(id, page);
  document.title = page.title;
  if (ended) end();
}

async function fetchPage() {
  const answer = await fetch(location.pathname, {
    headers: { Accept: "text/html" },
    signal: AbortSignal.timeout(GIVE_UP_MS),
  });
  if (answer.redirected || answer.status === 404) {
    end(); // signed out, or deleted
    location.reload();
  } else if (answer.ok) {
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (!isOver()) show(page);
  }
}

async function look() {
  stale = looking;
  if (looking || isOver()) return;
  looking = true;
  lookedAt = Date.now();
  try {
    await fetchPage();
  } catch {
    // The server is away; the next look will tell.
  }
  await new Promise((resolve) => setTimeout(resolve, REST_MS));
  looking = false;
  if (stale) look();
}

function listen() {
  if (isOver()) return;
  events = new EventSource(document.getElementById("live").dataset.events);
  for (const kind of ["state", "progress", "artifact"]) events.addEventListener(kind, look);
  events.addEventListener("error", () => {
    look();
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, LOOK_EVERY_MS);
  });
}

function end() {
  events.close();
  clearInterval(timer);
}

const timer = setInterval(() => {
  if (events.readyState !== EventSource.OPEN || Date.now() - lookedAt > LOOK_ANYWAY_MS) look();
}, LOOK_EVERY_MS);
for (const name of ["online", "pageshow"]) window.addEventListener(name, look);
document.addEventListener("visibilitychange", () => document.hidden || look());
listen();

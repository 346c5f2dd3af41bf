// Updates a job's page until the job has ended: events say when to read the page again; without them it is read every few seconds.
// Only the server's page is ever shown, so a lost connection, a suspended computer or a restart of the server cannot leave it wrong for long.

const READ_EVERY_MS = 3000;
const READ_ANYWAY_MS = 30_000; // a stream whose connection was lost silently still seems open
const TIMEOUT_MS = 10_000;
const MIN_INTERVAL_MS = 400; // between two reads, however many events arrive
const PARTS_WHILE_LIVE = ["state", "actions", "live", "facts"];
const PARTS_AT_END = ["state", "actions", "outcome", "facts"];

let events;
let reading = false;
let readAgain = false;
let readAt = Date.now();

const hasEnded = () => !document.getElementById("live");

// Compared by their text, since the tokens in forms always differ.
function replacePart(id, page) {
  const [old, fresh] = [document, page].map((where) => where.getElementById(id));
  if (old.textContent === fresh.textContent) return;
  const focused = old.contains(document.activeElement);
  old.innerHTML = fresh.innerHTML;
  if (focused) document.getElementById("main").focus({ preventScroll: true }); // or Tab would start at the top
}

function show(page) {
  const ended = !page.getElementById("live");
  for (const id of ended ? PARTS_AT_END : PARTS_WHILE_LIVE) replacePart(id, page);
  document.title = page.title;
  if (ended) stop();
}

async function fetchPage() {
  const response = await fetch(location.pathname, {
    headers: { Accept: "text/html" },
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  if (response.redirected || response.status === 404) {
    stop(); // signed out, or the job was deleted
    location.reload();
  } else if (response.ok) {
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    if (!hasEnded()) show(page);
  }
}

async function update() {
  readAgain = reading;
  if (reading || hasEnded()) return;
  reading = true;
  readAt = Date.now();
  try {
    await fetchPage();
  } catch {
    // The server does not answer; the next read tries again.
  }
  await new Promise((resolve) => setTimeout(resolve, MIN_INTERVAL_MS));
  reading = false;
  if (readAgain) update();
}

function listen() {
  if (hasEnded()) return;
  events = new EventSource(document.getElementById("live").dataset.events);
  for (const kind of ["state", "progress", "artifact"]) events.addEventListener(kind, update);
  events.addEventListener("error", () => {
    update();
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, READ_EVERY_MS);
  });
}

function stop() {
  events.close();
  clearInterval(timer);
}

const timer = setInterval(() => {
  if (events.readyState !== EventSource.OPEN || Date.now() - readAt > READ_ANYWAY_MS) update();
}, READ_EVERY_MS);
for (const name of ["online", "pageshow"]) window.addEventListener(name, update);
document.addEventListener("visibilitychange", () => document.hidden || update());
listen();

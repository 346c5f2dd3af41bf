// Bootstrap takes its dark colours from an attribute; the system's setting decides.
const dark = window.matchMedia("(prefers-color-scheme: dark)");

function applyTheme() {
  document.documentElement.dataset.bsTheme = dark.matches ? "dark" : "light";
}

dark.addEventListener("change", applyTheme);
applyTheme();

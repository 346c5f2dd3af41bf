// Shows the first rows of a file as soon as it is chosen. Without this script, a button does.

const form = document.querySelector("form[enctype]");
const preview = form.elements.namedItem("preview");
const file = form.elements.namedItem("file");

file.addEventListener("change", () => {
  if (file.files.length) form.requestSubmit(preview);
});
// Whether the first row is a header changes the names of the columns.
form.elements.namedItem("header").addEventListener("change", () => {
  if (form.elements.namedItem("upload")) form.requestSubmit(preview);
});

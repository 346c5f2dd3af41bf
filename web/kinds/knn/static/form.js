// Shows the table as soon as a file is chosen, or is to be read or prepared in another way. Without this script, a button does.

const form = document.querySelector("form[enctype]");
const preview = form.elements.namedItem("preview");
const file = form.elements.namedItem("file");

file.addEventListener("change", () => {
  if (file.files.length) form.requestSubmit(preview);
});
for (const fields of form.querySelectorAll(".reading")) {
  fields.addEventListener("change", () => form.requestSubmit(preview));
}

import { byId, element } from "./element.js";

/** A button that copies the text that `textOf` gives. */
export function copyButton(label, textOf) {
  const button = element("button", { type: "button", className: "act", ariaLabel: label }, "Copy");
  button.onclick = async () => {
    const done = await copy(textOf());
    button.textContent = done ? "Copied" : "Failed";
    byId("status").textContent = done ? "Copied" : "The browser does not let this page copy.";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  };
  return button;
}

/** Whether it could. Without a certificate a page of another machine has no clipboard of its own. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { /* the old way */ }
  const before = document.activeElement;
  const field = element("textarea", { value: text, className: "unseen" });
  document.body.append(field);
  field.select();
  try {
    return document.execCommand("copy");
  } finally {
    field.remove();
    before?.focus();
  }
}

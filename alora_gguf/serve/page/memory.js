/** Where the browser keeps small things: of all tabs, and of this one. What it does not take lasts as long as the page. */
export const ofBrowser = areaOf(() => localStorage);
export const ofTab = areaOf(() => sessionStorage);

function areaOf(find) {
  const refused = new Map();
  let area = null;
  try {
    area = find();
  } catch { /* it keeps nothing for this page */ }
  return {
    getItem: (name) => refused.get(name) ?? area?.getItem(name) ?? null,
    setItem(name, text) {
      refused.delete(name);
      try {
        area.setItem(name, text);
      } catch {
        refused.set(name, text); // there is none, or it is full
      }
    },
    removeItem(name) {
      refused.delete(name);
      area?.removeItem(name);
    },
  };
}

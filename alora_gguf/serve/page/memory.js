/** Where the browser keeps small things: of all tabs, and of this one. Where it may not, they last as long as the page. */
export const ofBrowser = areaOf(() => localStorage);
export const ofTab = areaOf(() => sessionStorage);

function areaOf(find) {
  try {
    return find();
  } catch {
    const kept = new Map();
    return { getItem: (name) => kept.get(name) ?? null, setItem: (name, text) => kept.set(name, text), removeItem: (name) => kept.delete(name) };
  }
}

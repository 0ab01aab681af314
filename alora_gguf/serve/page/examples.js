import { byId, element } from "./element.js";

/** What can be tried at once, from examples.json. An example is {say, ask}: a message, and the intrinsics that are asked when it
 * has an answer, with what they have to say: whether it is likely, or which text. That is for a test, which holds that the real ones do. */
export async function offerExamples(onChosen) {
  const examples = await (await fetch("examples.json")).json();
  byId("examples").append(...examples.map((example) => {
    const button = element("button", { type: "button", className: "quiet", onclick: () => onChosen(example) }, example.say);
    return element("li", {}, button);
  }));
}

/** What each intrinsic is for, as far as somebody wrote it. */
export function describe(intrinsics) {
  const about = intrinsics.filter(({ description }) => description);
  byId("about").replaceChildren(...about.flatMap(({ id, description }) => [element("dt", {}, id), element("dd", {}, description)]));
}

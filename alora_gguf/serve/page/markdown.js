import markdownIt from "./vendor/markdown-it.esm.min.mjs";
import { copyButton } from "./copy.js";
import { element } from "./element.js";

// a line of dashes behind a paragraph is no heading: while it comes it may be a list's first dash
const parser = markdownIt({ linkify: true }).disable("lheading");
// all that Markdown can make here; whatever else a token asks for is a span
const TAGS = new Set(["a", "blockquote", "br", "code", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "s", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul"]);
const SCHEMES = ["http:", "https:", "mailto:"];

/** Markdown as it comes, in `root`. What is finished stays as it is; only the last block is made again. No text becomes HTML on the way:
 * markdown-it gives tokens, and each becomes an element of TAGS. */
export class Markdown {
  constructor(root) {
    this.root = root;
    this.text = "";
    this.blocks = []; // {source, from, nodes}
  }

  /** The text so far. Until it is `whole`, marks that are not closed yet are taken as closed, so that nothing flickers. */
  show(text, whole) {
    const grown = !whole && text.startsWith(this.text) && this.blocks.length;
    const from = grown ? this.blocks.at(-1).from : 0;
    const kept = grown ? this.blocks.slice(0, -1) : [];
    this.text = text;
    this.draw([...kept, ...blocksOf(whole ? text : closed(text, from), from)]);
  }

  draw(blocks) {
    blocks.forEach((block, i) => {
      const old = this.blocks[i];
      if (old === block) return;
      if (old && (old.source === block.source || goesOn(old, block))) {
        block.nodes = old.nodes;
        return;
      }
      block.nodes = block.make();
      const next = this.blocks.slice(i + 1).flatMap(({ nodes }) => nodes)[0] ?? null;
      for (const node of old?.nodes ?? []) node.remove();
      for (const node of block.nodes) this.root.insertBefore(node, next);
    });
    for (const { nodes } of this.blocks.slice(blocks.length)) for (const node of nodes) node.remove();
    this.blocks = blocks;
  }
}

/** The blocks of a text from this character on: {source, from, code, make}, each of one top-level element. */
function blocksOf(text, from) {
  const source = text.slice(from), lines = source.split("\n"), starts = [0];
  for (const line of lines) starts.push(starts.at(-1) + line.length + 1);
  const blocks = [];
  let open = null;
  for (const token of parser.parse(source, {})) {
    if (!open) {
      const [first, end] = token.map;
      open = { source: source.slice(starts[first], starts[end]).trimEnd(), from: from + starts[first], tokens: [], code: null };
      if (token.type === "fence" || token.type === "code_block") open.code = { language: token.info.trim().split(/\s/)[0], text: token.content };
    }
    open.tokens.push(token);
    if (token.level === 0 && token.nesting <= 0) {
      const { tokens } = open;
      blocks.push({ ...open, make: () => nodesOf(tokens).map((node) => Object.assign(node, { dir: node.dir || "auto" })) }); // each as its first words run
      open = null;
    }
  }
  return blocks;
}

/** Whether a block of code has only grown: then its element stays, and so does what is selected in it. */
function goesOn(old, block) {
  if (!old.code || !block.code || old.code.language !== block.code.language || !block.code.text.startsWith(old.code.text.trimEnd())) return false;
  old.nodes[0].querySelector("code").textContent = block.code.text;
  return true;
}

function nodesOf(tokens) {
  const root = document.createDocumentFragment(), open = [root];
  for (const token of tokens) {
    const top = open.at(-1);
    if (token.nesting < 0) open.pop();
    else if (token.nesting > 0) {
      const node = token.hidden ? top : made(token);
      if (node !== top) top.append(node.wrap ?? node);
      open.push(node);
    } else if (token.type === "inline") top.append(...nodesOf(token.children));
    else top.append(leaf(token));
  }
  return [...root.childNodes];
}

function made(token) {
  if (token.type === "link_open") return link(token.attrGet("href"));
  let tag = TAGS.has(token.tag) ? token.tag : "span";
  if (/^h\d$/.test(tag)) tag = `h${Math.min(6, Number(tag[1]) + 2)}`; // below the page's own
  const node = element(tag);
  const align = /text-align:(\w+)/.exec(token.attrGet("style") ?? "");
  if (align) node.style.textAlign = align[1];
  if (token.type === "ordered_list_open" && token.attrGet("start")) node.start = token.attrGet("start");
  if (tag === "table") {
    node.wrap = element("div", { className: "wide-table", tabIndex: 0, role: "region", ariaLabel: "Table" }, node);
  }
  return node;
}

function leaf(token) {
  switch (token.type) {
    case "text": return token.content;
    case "text_special": return token.content;
    case "softbreak": return "\n";
    case "hardbreak": return element("br");
    case "hr": return element("hr");
    case "code_inline": return element("code", {}, token.content);
    case "image": { // nothing is fetched: a link says where it is
      const node = link(token.attrGet("src"));
      node.append(token.content || "image");
      return node;
    }
    case "fence": case "code_block": return code(token.content, token.info.trim().split(/\s/)[0]);
    default: return token.content;
  }
}

function link(href) {
  let scheme = null;
  try {
    scheme = new URL(href).protocol;
  } catch { /* it leads nowhere outside of this page */ }
  return SCHEMES.includes(scheme) ? element("a", { href, target: "_blank", rel: "noopener noreferrer" }) : element("span");
}

function code(text, language) {
  const shown = element("code", {}, text);
  return element("figure", { className: "code", dir: "ltr" },
    element("figcaption", {}, element("span", {}, language), copyButton("Copy code", () => shown.textContent)),
    element("pre", { tabIndex: 0, role: "region", ariaLabel: language ? `Code, ${language}` : "Code" }, shown));
}

/** A text that has not ended, with what is open at its end closed, from this character on. */
export function closed(text, from = 0) {
  const fence = fenceIn(text.slice(from));
  if (fence.open) return text.replace(/(^|\n)[ \t]*(```+|~~~+)[^\n]*$|(?<=\n)[ \t]*[`~]+$/, "$1"); // which language, and whether it ends
  const begin = Math.max(from + fence.end, text.lastIndexOf("\n\n") + 1), line = text.lastIndexOf("\n") + 1;
  let tail = text.slice(begin);
  if (/^\s*([-*+#>`~|=_:\s]+|\d+[.)]?)$/.test(text.slice(line))) tail = tail.slice(0, Math.max(0, line - begin)).trimEnd(); // what it begins is not known yet
  if (/^\s*\|[^\n]*\n?$/.test(tail)) tail = ""; // nor whether it is a table's
  if (/^( {4}|\t)/.test(text.slice(from)) && /^\n?( {4}|\t)/.test(tail)) return text.slice(0, begin) + tail; // code
  tail = tail.replace(/(?<!~)~$|(?<=^|\s)!$/, ""); // half of a mark
  let rest = tail.replace(/\\[^]/g, "  ").replace(/(?<!`)(`+)(?!`)[^]*?(?<!`)\1(?!`)/g, (whole) => " ".repeat(whole.length));
  const link = /!?\[([^\][]*)(\](\([^()\s]*)?)?$/.exec(rest), tick = rest.indexOf("`");
  if (link && (tick < 0 || link.index < tick)) {
    const from = link.index + link[0].indexOf("[") + 1, said = (t) => t.slice(0, link.index) + t.slice(from, from + link[1].length);
    [tail, rest] = [said(tail), said(rest)];
  }
  for (const mark of ["`", "***", "**", "__", "~~", "*", "_"]) {
    let open = -1;
    for (let i = rest.indexOf(mark); i >= 0; i = rest.indexOf(mark, i + mark.length)) {
      const before = rest[i - 1] ?? " ", after = rest[i + mark.length] ?? "";
      if (open >= 0 && before.trim()) open = -1;
      else if (open < 0 && after !== " " && after !== "\n" && !/\w/.test(before)) open = i;
    }
    rest = rest.replaceAll(mark, " ".repeat(mark.length));
    if (open < 0) continue;
    tail = tail.trimEnd();
    let whole = tail.length;
    while (tail[whole - 1] === mark[0]) whole--;
    if (tail.length - whole < mark.length && whole > open + mark.length) tail = tail.slice(0, whole); // a part of what closes it
    rest = rest.slice(0, tail.length);
    tail = open + mark.length === tail.length ? tail.slice(0, open) : tail + mark;
    if (mark === "`") break; // what is in it is no mark
  }
  return text.slice(0, begin) + tail;
}

/** Whether code is open at the end of a text, and where the last that is not ended. */
function fenceIn(text) {
  let fence = "", end = 0;
  for (const { 0: line, 1: marks, 2: rest, index } of text.matchAll(/^[ \t]*(`{3,}|~{3,})(.*)$/gm)) {
    if (!fence) fence = marks;
    else if (marks.startsWith(fence) && !rest.trim()) {
      fence = "";
      end = index + line.length;
    }
  }
  return { open: Boolean(fence), end };
}

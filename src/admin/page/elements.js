// The elements of the page. Data from outside becomes text here, never markup.

const SVG = "http://www.w3.org/2000/svg";

const byId = (id) => document.getElementById(id);

/** An element with attributes and children; strings become text. */
const element = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};

const svgElement = (name, attributes = {}, ...children) => {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};

/** Writes only changes: hundreds of rows are updated every second. */
const setText = (node, text) => {
  if (node.textContent !== text) node.textContent = text;
};

const setAttribute = (node, name, value) => {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
};

const show = (node, shown) => {
  if (node.hidden === shown) node.hidden = !shown;
};

/** An icon with its own shape and a word, so that colour is never the only distinction. */
const badge = () => {
  const use = svgElement("use");
  const word = element("span");
  const whole = element("span", { class: "badge" }, svgElement("svg", { class: "icon", "aria-hidden": "true" }, use), word);
  return {
    whole,
    set(state) {
      show(whole, state !== null);
      if (state === null) return;
      setAttribute(whole, "data-tone", state.tone);
      setAttribute(use, "href", `#i-${state.icon}`);
      setText(word, state.word);
    },
  };
};

/** A cell with a label, for narrow screens that hide the header of the table. */
const cell = (label, ...children) => element("td", { role: "cell", "data-label": label }, ...children);

const headCell = (label, ...children) => element("th", { role: "rowheader", scope: "row", "data-label": label }, ...children);

const row = (...cells) => element("tr", { role: "row" }, ...cells);

const moment = (time) => element("time", { datetime: time, title: time }, clock(time));

// What the page is built of. Whatever came from outside becomes text here, never markup.

const SVG = "http://www.w3.org/2000/svg";

const byId = (id) => document.getElementById(id);

/** An element with attributes and children; strings among them are text. */
const element = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};

const drawn = (name, attributes = {}, ...children) => {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};

/** Writes only what is new: hundreds of rows are looked through every second. */
const say = (node, text) => {
  if (node.textContent !== text) node.textContent = text;
};

const mark = (node, name, value) => {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
};

const show = (node, shown) => {
  if (node.hidden === shown) node.hidden = !shown;
};

/** A sign with a shape of its own and a word beside it, so that colour is never alone. */
const badge = () => {
  const use = drawn("use");
  const word = element("span");
  const whole = element("span", { class: "badge" }, drawn("svg", { class: "icon", "aria-hidden": "true" }, use), word);
  return {
    whole,
    set(state) {
      show(whole, state !== null);
      if (state === null) return;
      mark(whole, "data-tone", state.tone);
      mark(use, "href", `#i-${state.icon}`);
      say(word, state.word);
    },
  };
};

/** A cell that says what it is where a narrow screen has no room for the head of its table. */
const cell = (label, ...children) => element("td", { role: "cell", "data-label": label }, ...children);

const headCell = (label, ...children) => element("th", { role: "rowheader", scope: "row", "data-label": label }, ...children);

const row = (...cells) => element("tr", { role: "row" }, ...cells);

const moment = (time) => element("time", { datetime: time, title: time }, clock(time));

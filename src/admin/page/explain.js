// The box that asks what would become of a client.

const explainForm = byId("explain");

const offerToExplain = (() => {
  let known = "";
  return (status) => {
    const now = JSON.stringify(status.listeners.map(({ name, routes }) => [name, routes]));
    if (now === known) return;
    known = now;
    const { listener } = explainForm.elements;
    const chosen = listener.value;
    listener.replaceChildren(...status.listeners.map(({ name }) => element("option", { value: name }, name)));
    if (status.listeners.some(({ name }) => name === chosen)) listener.value = chosen;
    const names = status.listeners.flatMap(({ routes }) => routes.flatMap((route) => route.names));
    byId("names").replaceChildren(...[...new Set(names)].map((name) => element("option", { value: name })));
  };
})();

const verdict = (told) => {
  if (told.refused !== null) {
    return element("p", { class: "verdict", "data-tone": "bad" }, "Refused: ", element("code", {}, told.refused));
  }
  const where = told.address === null ? "" : ` at ${told.address}`;
  const pick = told.pick === null ? "" : ` (${told.pick})`;
  return element("p", { class: "verdict", "data-tone": "good" }, `${told.backend}${where}, pool ${told.pool}${pick}`);
};

explainForm.addEventListener("submit", async (event) => {
  event.preventDefault();
  const query = new URLSearchParams(new FormData(explainForm));
  const place = byId("explanation");
  try {
    const told = await ask(`/api/v1/explain?${query}`);
    const steps = told.steps.map((step) => element("li", {}, step));
    place.replaceChildren(verdict(told), element("ol", {}, ...steps));
  } catch (error) {
    place.replaceChildren(element("p", { class: "fault" }, `No answer: ${error.message}.`));
    if (error.status === 401) await askForToken();
  }
});

// The form that explains which backend a client would get.

const explainForm = byId("explain");

const fillExplainForm = (() => {
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

const resultOf = (explanation) => {
  if (explanation.refused !== null) {
    return element("p", { class: "verdict", "data-tone": "bad" }, "Rejected: ", element("code", {}, explanation.refused));
  }
  const where = explanation.address === null ? "" : ` at ${explanation.address}`;
  const pick = explanation.pick === null ? "" : ` (${explanation.pick})`;
  return element("p", { class: "verdict", "data-tone": "good" }, `${explanation.backend}${where}, pool ${explanation.pool}${pick}`);
};

explainForm.addEventListener("submit", async (event) => {
  event.preventDefault();
  const query = new URLSearchParams(new FormData(explainForm));
  const output = byId("explanation");
  try {
    const explanation = await request(`/api/v1/explain?${query}`);
    const steps = explanation.steps.map((step) => element("li", {}, step));
    output.replaceChildren(resultOf(explanation), element("ol", {}, ...steps));
  } catch (error) {
    output.replaceChildren(element("p", { class: "error" }, `Request failed: ${error.message}.`));
    if (error.status === 401) await signIn();
  }
});

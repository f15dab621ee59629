// One backend of one pool, as a row: state, checks, charts, and the buttons that change it.

/** Draws only what can be seen: a large site has hundreds of rows. */
const seen = new IntersectionObserver((changes) => {
  for (const change of changes) change.target.dataset.seen = change.isIntersecting ? "yes" : "";
});

const checkLine = () => {
  const sign = badge();
  const detail = element("span");
  const note = element("small", { class: "quiet" });
  const whole = element("li", {}, sign.whole, element("span", {}, detail, note));
  return {
    whole,
    update(check, now) {
      const words = new Map([
        [true, { icon: "up", tone: "good" }],
        [false, { icon: "down", tone: check.decides ? "bad" : "warn" }],
        [null, { icon: "unknown", tone: "quiet" }],
      ]).get(check.passing);
      sign.set({ ...words, word: check.label });
      say(detail, check.detail);
      const result = { true: "passes", false: "fails", null: "no result" }[check.passing];
      const observed = check.decides ? "" : "only observed · ";
      const turning = check.decides && check.against > 0 ? ` · ${check.against} of ${check.needed} until it counts` : "";
      const took = check.passing === null ? "" : ` · ${milliseconds(check.took_seconds)}`;
      say(note, `${observed}${result} for ${lasting(seconds(check.since, now))}${turning}${took}`);
    },
  };
};

const buttons = (key, pool, elsewhere, current) =>
  ["drain", "maintain", "ready"].map((state) => {
    const { verb } = CHANGES[state];
    const { name } = key;
    const button = element("button", { type: "button", "data-state": state, "aria-label": `${verb}: ${name} in ${pool}` }, verb);
    button.addEventListener("click", () => {
      if (button.getAttribute("aria-disabled") !== "true") askToChange(state, current(), pool, elsewhere(name));
    });
    return button;
  });

const backendRow = (first, pool, elsewhere) => {
  let latest = first;
  const [health, wanted] = [badge(), badge()];
  const since = element("small", { class: "quiet" });
  const why = element("small", { class: "why" });
  const address = element("small", { class: "quiet" });
  const checks = element("ul", { class: "plain checks" });
  const lines = first.checks.map(checkLine);
  checks.append(...lines.map((line) => line.whole));
  const number = element("span", { class: "number" });
  const bound = element("span", { class: "quiet" });
  const held = chart(["first"]);
  const [down, up, total] = [element("span"), element("span"), element("small", { class: "quiet", title: "since the start" })];
  const moved = chart(["first", "second"]);
  const pins = element("small", { class: "quiet" });
  const weight = element("small", { class: "quiet" });
  const certificate = element("span");
  const end = element("small", { class: "quiet" });
  const acts = buttons(first, pool, elsewhere, () => latest);
  const whole = row(
    headCell("Backend", element("span", { class: "title" }, first.name), address, weight),
    cell("State", element("span", { class: "badges" }, health.whole, wanted.whole), since, why),
    cell("Checks", checks),
    cell("Connections", element("span", {}, number, " ", bound), held.whole, pins),
    cell("Traffic", element("span", { class: "both" }, down, up), moved.whole, total),
    cell("Certificate", certificate, end),
    cell("Change", element("span", { class: "acts" }, ...acts)),
  );
  seen.observe(whole);

  const update = (now, at, keyed) => {
    latest = now.backend;
    const backend = latest;
    mark(whole, "data-health", backend.health);
    health.set(condition(backend));
    wanted.set(wish(backend));
    say(address, backend.address === null ? `${backend.configured}, not resolved` : `${backend.address}`);
    mark(address, "title", backend.configured);
    const share = backend.effective_weight === backend.weight ? "" : `, now ${backend.effective_weight.toFixed(2).replace(/\.?0+$/, "")}`;
    say(weight, `weight ${backend.weight}${share}`);
    say(since, `for ${lasting(seconds(backend.since, now.at))}, since ${clock(backend.since)}`);
    say(why, backend.why);
    backend.checks.forEach((check, index) => lines[index]?.update(check, now.at));
    say(number, count(backend.connections));
    say(bound, backend.max_connections === null ? "" : `of ${count(backend.max_connections)}`);
    say(down, `↓ ${rate(keyed.rates.toClient)}`);
    say(up, `↑ ${rate(keyed.rates.toBackend)}`);
    say(total, `${bytes(backend.bytes_to_client)} ↓ ${bytes(backend.bytes_to_backend)} ↑`);
    say(pins, backend.pins === null ? "" : counted(backend.pins, "pin"));
    showCertificate(backend, now.at);
    for (const button of acts) {
      const { state } = button.dataset;
      mark(button, "aria-disabled", String(state === backend.state && state !== "drain"));
    }
    if (whole.dataset.seen !== "yes") return;
    held.draw(at, [history.of(`${keyed.key} held`)]);
    moved.draw(at, [history.of(`${keyed.key} down`), history.of(`${keyed.key} up`)]);
  };
  const showCertificate = (backend, now) => {
    const last = expiry(backend);
    const left = last === null ? { text: "–", tone: "plain" } : validity(last, now);
    say(certificate, left.tone === "plain" ? left.text : `⚠ ${left.text}`);
    mark(certificate, "data-tone", left.tone);
    say(end, last === null ? "" : day(last));
  };
  return { whole, update, gone: () => seen.unobserve(whole) };
};

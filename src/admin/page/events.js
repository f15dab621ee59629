// What happened last: ups and downs of backends, and refusals.

/** Fills a table anew when there is something new; the newest stands first. */
const eventsOf = (id, make) => {
  const table = byId(id);
  const none = table.parentElement.querySelector("p");
  let known = null;
  return (items) => {
    const now = JSON.stringify(items);
    if (now === known) return;
    known = now;
    table.tBodies[0].replaceChildren(...items.map(make));
    show(table, items.length > 0);
    show(none, items.length === 0);
  };
};

const showHealthEvents = eventsOf("health", (event) => {
  const sign = badge();
  sign.set(condition({ health: event.health, damped_until: null }));
  return row(
    cell("Time", moment(event.at)),
    headCell("Backend", `${event.backend} `, element("small", { class: "quiet" }, event.pool)),
    cell("Became", sign.whole),
    cell("Why", event.why),
  );
});

const showRefusals = eventsOf("refusals", (refusal) =>
  row(
    cell("Time", moment(refusal.at)),
    cell("Client", refusal.client, element("small", { class: "quiet" }, `at ${refusal.listener}`)),
    cell("Asked for", refusal.name ?? "–"),
    cell("Outcome", element("code", {}, refusal.outcome), element("small", { class: "quiet" }, refusal.detail ?? "")),
  ),
);

/** Says what changed since the last look, for those who do not see it change. */
const announceChanges = (() => {
  let before = null;
  return (status) => {
    const now = new Map();
    for (const pool of status.pools) {
      for (const backend of pool.backends) now.set(`${backend.name} in ${pool.name}`, backend);
    }
    const changed = [...now].filter(([name, { health }]) => before?.has(name) && before.get(name).health !== health);
    before = now;
    if (changed.length === 0) return false;
    const told = changed.slice(0, 5).map(([name, backend]) => `${name} is ${backend.health}: ${backend.why}`);
    if (changed.length > told.length) told.push(`and ${changed.length - told.length} more`);
    say(byId("announcements"), told.join("; "));
    return true;
  };
})();

// What is asked of the person: the token, and whether a change is meant.

/** Words of each change: its button, what it does, and how it is told once it is done. */
const CHANGES = {
  drain: {
    verb: "Drain",
    done: "drains",
    text: () => "It gets no new clients. Those that are pinned to it stay until the deadline; what is left then is reset.",
  },
  maintain: {
    verb: "Maintain",
    done: "is in maintenance",
    text: (held) => `Nobody is sent to it any more, and what it holds is reset at once: ${held}.`,
  },
  ready: {
    verb: "Ready",
    asked: "Make ready",
    done: "is ready",
    text: () => "It takes clients again as soon as its checks pass. Falls that were held against it are forgiven.",
  },
};

let toastGone;

const toast = (text) => {
  say(byId("toast"), text);
  clearTimeout(toastGone);
  toastGone = setTimeout(() => say(byId("toast"), ""), 6000);
};

/** Asks for the token, and again until one is taken; resolves when it is. */
const askForToken = (() => {
  const dialog = byId("token");
  const form = dialog.querySelector("form");
  const fault = dialog.querySelector(".fault");
  let asking = null;
  let taken = null;
  // Without it there is nothing to see, so that Escape leads nowhere; a browser lets the second one through.
  dialog.addEventListener("close", () => taken !== null && dialog.showModal());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    token.set(form.elements.token.value.trim());
    try {
      await ask("/api/v1/events");
    } catch (error) {
      if (error.status === 401) token.forget();
      say(fault, error.status === 401 ? "This is not the token." : `No answer: ${error.message}.`);
      form.elements.token.select();
      return;
    }
    form.reset();
    say(fault, "");
    const done = taken;
    [asking, taken] = [null, null];
    dialog.close();
    done?.();
  });
  return () => {
    asking ??= new Promise((resolve) => {
      taken = resolve;
      token.forget();
      dialog.showModal();
      form.elements.token.focus();
    });
    return asking;
  };
})();

/**
 * Asks whether a change of a backend is meant, and makes it: in every pool that has a backend of its name, unless the
 * person leaves the others out. What would take out the last backend of a pool is asked once more, in the balancer's words.
 */
const askToChange = (() => {
  const dialog = byId("ask");
  const form = dialog.querySelector("form");
  const fault = dialog.querySelector(".fault");
  const { deadline, everywhere, cancel, go } = form.elements;
  let meant = null;
  const chosen = () => (everywhere.checked ? meant.pools : meant.pools.slice(0, 1));
  const showQuestion = () => {
    const { state, backend } = meant;
    const { asked, verb } = CHANGES[state];
    meant.force = false;
    say(fault, "");
    say(byId("ask-title"), `${asked ?? verb} ${backend} in ${chosen().join(", ")}?`);
    say(go, verb);
  };
  const askOnceMore = (why) => {
    meant.force = true;
    say(fault, `${why}.`);
    say(go, `${CHANGES[meant.state].verb} all the same`);
    cancel.focus();
  };
  everywhere.addEventListener("change", showQuestion);
  cancel.addEventListener("click", () => dialog.close());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const { backend, pools, state, force } = meant;
    const change = { state, force };
    if (state === "drain" && deadline.value.trim() !== "") change.deadline = deadline.value.trim();
    go.disabled = true;
    try {
      const done = await setState(chosen().length > 1 ? null : pools[0], backend, change);
      dialog.close();
      toast(`${backend} ${CHANGES[state].done} in ${done.join(", ")}.`);
      lookNow();
    } catch (error) {
      if (error.status === 401) {
        dialog.close();
        await askForToken();
      } else if (error.status === 409 && !force) {
        askOnceMore(error.message);
      } else {
        say(fault, `Not done: ${error.message}.`);
      }
    } finally {
      go.disabled = false;
    }
  });
  return (state, backend, pool, elsewhere) => {
    const words = CHANGES[state];
    const { name, connections } = backend;
    meant = { state, backend: name, pools: [pool, ...elsewhere], force: false };
    form.reset();
    everywhere.checked = elsewhere.length > 0;
    say(byId("ask-text"), words.text(counted(connections, "connection")));
    show(byId("ask-deadline"), state === "drain");
    show(byId("ask-everywhere"), elsewhere.length > 0);
    say(byId("ask-everywhere").querySelector("span"), `In ${elsewhere.join(", ")} too`);
    showQuestion();
    dialog.showModal();
    // The harmless one, so that a hasty Enter changes nothing.
    cancel.focus();
  };
})();

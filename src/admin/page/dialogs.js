// The dialogs: sign in, and confirm a change.

/** Texts of each change: its button, the question, its effect, and the message when it is done. */
const CHANGES = {
  drain: {
    verb: "Drain",
    done: "is draining",
    text: () => "It gets no new clients. Clients that are pinned to it stay until the deadline; remaining connections are then reset.",
  },
  maintain: {
    verb: "Maintain",
    done: "is in maintenance",
    text: (held) => `It gets no clients, and its connections are reset at once: ${held}.`,
  },
  ready: {
    verb: "Ready",
    question: "Make ready",
    done: "is ready",
    text: () => "It gets clients again as soon as its checks pass. Its flap damping is reset.",
  },
};

let toastTimer;

const toast = (text) => {
  setText(byId("toast"), text);
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => setText(byId("toast"), ""), 6000);
};

/** Asks for the token until one is accepted, then resolves. */
const signIn = (() => {
  const dialog = byId("token");
  const form = dialog.querySelector("form");
  const error = dialog.querySelector(".error");
  let pending = null;
  let accepted = null;
  // Without the token there is nothing to see, so the dialog stays open on Escape; browsers let the second one through.
  dialog.addEventListener("close", () => accepted !== null && dialog.showModal());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    token.set(form.elements.token.value.trim());
    try {
      await request("/api/v1/events");
    } catch (failure) {
      if (failure.status === 401) token.forget();
      setText(error, failure.status === 401 ? "Wrong token." : `Request failed: ${failure.message}.`);
      form.elements.token.select();
      return;
    }
    form.reset();
    setText(error, "");
    const done = accepted;
    [pending, accepted] = [null, null];
    dialog.close();
    done?.();
  });
  return () => {
    pending ??= new Promise((resolve) => {
      accepted = resolve;
      token.forget();
      dialog.showModal();
      form.elements.token.focus();
    });
    return pending;
  };
})();

/**
 * Asks for confirmation of a change of a backend, and makes it: in every pool that has a backend of its name, unless the
 * user excludes the others. If a pool would lose its last backend, asks once more, with the error of the balancer.
 */
const confirmChange = (() => {
  const dialog = byId("ask");
  const form = dialog.querySelector("form");
  const error = dialog.querySelector(".error");
  const { deadline, everywhere, cancel, go } = form.elements;
  let change = null;
  const chosen = () => (everywhere.checked ? change.pools : change.pools.slice(0, 1));
  const showQuestion = () => {
    const { state, backend } = change;
    const { question, verb } = CHANGES[state];
    change.force = false;
    setText(error, "");
    setText(byId("ask-title"), `${question ?? verb} ${backend} in ${chosen().join(", ")}?`);
    setText(go, verb);
  };
  const confirmLast = (why) => {
    change.force = true;
    setText(error, `${why}.`);
    setText(go, `${CHANGES[change.state].verb} anyway`);
    cancel.focus();
  };
  everywhere.addEventListener("change", showQuestion);
  cancel.addEventListener("click", () => dialog.close());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const { backend, pools, state, force } = change;
    const body = { state, force };
    if (state === "drain" && deadline.value.trim() !== "") body.deadline = deadline.value.trim();
    go.disabled = true;
    try {
      const done = await setState(chosen().length > 1 ? null : pools[0], backend, body);
      dialog.close();
      toast(`${backend} ${CHANGES[state].done} in ${done.join(", ")}.`);
      refreshNow();
    } catch (failure) {
      if (failure.status === 401) {
        dialog.close();
        await signIn();
      } else if (failure.status === 409 && !force) {
        confirmLast(failure.message);
      } else {
        setText(error, `Failed: ${failure.message}.`);
      }
    } finally {
      go.disabled = false;
    }
  });
  return (state, backend, pool, elsewhere) => {
    const texts = CHANGES[state];
    const { name, connections } = backend;
    change = { state, backend: name, pools: [pool, ...elsewhere], force: false };
    form.reset();
    everywhere.checked = elsewhere.length > 0;
    setText(byId("ask-text"), texts.text(counted(connections, "connection")));
    show(byId("ask-deadline"), state === "drain");
    show(byId("ask-everywhere"), elsewhere.length > 0);
    setText(byId("ask-everywhere").querySelector("span"), `Also in ${elsewhere.join(", ")}`);
    showQuestion();
    dialog.showModal();
    // So that an accidental Enter changes nothing.
    cancel.focus();
  };
})();

// The one who is asked. Owns the token, which lives in this tab's session and nowhere else.

const TOKEN = "lyncpin-token";
const PATIENCE = 5000;

/** Why there is no answer; `status` is 0 where nothing came back at all. */
class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (value) => sessionStorage.setItem(TOKEN, value),
  forget: () => sessionStorage.removeItem(TOKEN),
};

const ask = async (path, options = {}) => {
  const headers = new Headers({ Accept: "application/json" });
  const known = token.get();
  if (known !== null) headers.set("Authorization", `Bearer ${known}`);
  let answer;
  let body;
  try {
    const signal = AbortSignal.timeout(PATIENCE);
    answer = await fetch(path, { ...options, headers, signal, cache: "no-store", credentials: "omit" });
    body = await answer.json();
  } catch {
    throw new Refused(answer?.status ?? 0, "the balancer does not answer");
  }
  if (!answer.ok) throw new Refused(answer.status, String(body.error ?? answer.status));
  return body;
};

/** In one pool, or without one in every pool that has a backend of that name; resolves to the pools. */
const setState = async (pool, backend, change) => {
  const [inPool, named] = [pool ?? "", backend].map(encodeURIComponent);
  const path = pool === null ? `/api/v1/backends/${named}/state` : `/api/v1/pools/${inPool}/backends/${named}/state`;
  const answer = await ask(path, { method: "PUT", body: JSON.stringify(change) });
  return (answer.changed ?? [answer]).map((changed) => changed.pool);
};

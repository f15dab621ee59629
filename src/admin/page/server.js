// Requests to the API. Owns the token, which is stored in the session of this tab only.

const TOKEN = "lyncpin-token";
const TIMEOUT = 5000;

/** A failed request; `status` is 0 if there was no response. */
class RequestError extends Error {
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

const request = async (path, options = {}) => {
  const headers = new Headers({ Accept: "application/json" });
  const current = token.get();
  if (current !== null) headers.set("Authorization", `Bearer ${current}`);
  let response;
  let body;
  try {
    const signal = AbortSignal.timeout(TIMEOUT);
    response = await fetch(path, { ...options, headers, signal, cache: "no-store", credentials: "omit" });
    body = await response.json();
  } catch {
    throw new RequestError(response?.status ?? 0, "the balancer does not respond");
  }
  if (!response.ok) throw new RequestError(response.status, String(body.error ?? response.status));
  return body;
};

/** Sets the state in one pool, or if `pool` is null in every pool that has a backend of that name; resolves to the pools. */
const setState = async (pool, backend, change) => {
  const [inPool, named] = [pool ?? "", backend].map(encodeURIComponent);
  const path = pool === null ? `/api/v1/backends/${named}/state` : `/api/v1/pools/${inPool}/backends/${named}/state`;
  const result = await request(path, { method: "PUT", body: JSON.stringify(change) });
  return (result.changed ?? [result]).map((changed) => changed.pool);
};

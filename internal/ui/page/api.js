// Requests to the server that the page came from.

// get asks for JSON. Values of params are encoded, but for those of raw, which are.
export async function get(name, params = {}, raw = {}, signal) {
  return answer(await fetch(url(name, params, raw), { signal }));
}

export function url(name, params = {}, raw = {}) {
  const q = Object.entries(params).filter(([, v]) => v !== undefined && v !== "").map(([k, v]) => `${k}=${encodeURIComponent(v)}`);
  for (const [k, v] of Object.entries(raw)) if (v) q.push(`${k}=${v}`);
  return `api/${name}${q.length ? "?" + q.join("&") : ""}`;
}

export async function post(name, data) {
  return answer(await fetch(`api/${name}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(data) }));
}

async function answer(response) {
  let data;
  try {
    data = await response.json();
  } catch {
    throw new Error(`the server answered ${response.status} ${response.statusText}`);
  }
  if (!response.ok) throw new Error(data.error ?? response.statusText);
  return data;
}

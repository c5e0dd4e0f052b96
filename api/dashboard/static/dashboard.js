// The dashboard polls the API once a second while the page is visible. All text is set through textContent, so
// user input (a prompt, a file name) cannot become markup.

const POLL_MS = 1000;
const $ = (id) => document.getElementById(id);
const rows = new Map(); // job id -> {node, seen}
let variants = [];
let etag = null;
let olderCursor = null;

// ---- the key, where the server asks for one; kept for this tab alone

const KEY = "mmaudio-key";

// Sends a request to this API, with the key if there is one. Signed links, which lead elsewhere too, need none.
async function send(url, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = key ? { ...options.headers, Authorization: `Bearer ${key}` } : options.headers;
  const response = await fetch(url, { ...options, headers });
  if (response.status === 401) askForKey(key);
  return response;
}

// A refusal of a key that has been replaced meanwhile asks for nothing.
function askForKey(refused) {
  if (refused !== sessionStorage.getItem(KEY) || !$("login").hidden) return;
  sessionStorage.removeItem(KEY);
  $("key-problem").textContent = refused ? "This key is not valid: it is unknown, revoked or has expired." : "";
  $("key-problem").hidden = !refused;
  $("login").hidden = false;
  $("main").hidden = true;
  $("key").focus();
}

function useKey(event) {
  event.preventDefault();
  const key = $("key").value.trim();
  if (!/^[\x21-\x7e]+$/.test(key)) return;
  sessionStorage.setItem(KEY, key);
  $("key").value = "";
  $("login").hidden = true;
  $("main").hidden = false;
  begin();
}

async function call(method, url, body) {
  const response = await send(url, {
    method,
    headers: body === undefined ? {} : { "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const answer = response.status === 204 ? null : await response.json().catch(() => null);
  if (!response.ok && !(response.status === 409 && answer?.job)) throw new Error(explain(answer, response.status));
  return answer;
}

function explain(problem, status) {
  if (problem?.errors?.length) return problem.errors.map((e) => `${e.field}: ${e.message}`).join("\n");
  return problem?.detail ?? `The server answered ${status}.`;
}

// What an object store answers: XML, or nothing that this page may read.
function explainStore(text, status) {
  const code = /<Code>([\w.]{1,60})<\/Code>/.exec(text ?? "")?.[1];
  return `The object store refused the file (${code ?? status}). Try again; if it stays so, ask the operator.`;
}

// Browsers tell no page why a call to another host failed, so this names each cause and how to find it.
function explainUnreachable(url, what) {
  const store = new URL(url, location.href);
  if (store.origin === location.origin) return `${what}: the connection to this server broke; try again.`;
  if (location.protocol === "https:" && store.protocol === "http:") {
    return `${what}: the object store's address ${store.origin} is http, and browsers load nothing from there into a page ` +
      "of https. The operator sets MMAUDIO_S3_PUBLIC_ENDPOINT_URL to an address of https.";
  }
  return `${what}: this browser got no answer that it may read from the object store at ${store.origin}. Either it cannot ` +
    "be reached from here (MMAUDIO_S3_PUBLIC_ENDPOINT_URL), or its bucket does not allow this page (CORS). The operator " +
    `sees what is missing with: mmaudio doctor --cors --origin ${location.origin}`;
}

// Returns why a file cannot be loaded, as the API says it; "" when the API leads to it.
async function whyNotLoaded(url) {
  try {
    const response = await fetch(url, { redirect: "manual", headers: { Range: "bytes=0-0" } });
    if (response.type === "opaqueredirect" || response.ok) { await response.body?.cancel(); return ""; }
    return explain(await response.json().catch(() => null), response.status);
  } catch (error) {
    return `No connection: ${error.message}`;
  }
}

function say(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

// ---- the form

function upload(file) {
  return new Promise((resolve, reject) => {
    call("POST", "/v1/uploads", { filename: file.name || "video", size_bytes: file.size, content_type: file.type || "application/octet-stream" })
      .then((announced) => {
        const { method, url, headers, fields } = announced.upload;
        const request = new XMLHttpRequest(); // fetch tells no upload progress
        request.open(method, url);
        for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
        request.upload.onprogress = (event) => { $("sending").value = event.loaded / event.total; };
        request.onload = () => {
          if (request.status < 300) return resolve(announced.id);
          let problem = null;
          try { problem = JSON.parse(request.responseText); } catch { /* an object store answers XML */ }
          reject(new Error(problem ? explain(problem, request.status) : explainStore(request.responseText, request.status)));
        };
        request.onerror = () => reject(new Error(explainUnreachable(url, "The file was not sent")));
        if (method === "PUT") return request.send(file);
        const form = new FormData();
        for (const [name, value] of Object.entries(fields)) form.append(name, value);
        form.append("file", file);
        request.send(form);
      })
      .catch(reject);
  });
}

async function submit(event) {
  event.preventDefault();
  say("");
  $("submit").disabled = true;
  try {
    const body = { prompt: $("prompt").value, negative_prompt: $("negative_prompt").value, variant: $("variant").value || undefined };
    for (const name of ["duration_s", "seed", "num_steps", "cfg_strength", "num_samples"]) {
      if ($(name).value !== "") body[name] = Number($(name).value);
    }
    for (const name of ["channels", "sample_rate_hz"]) {
      if ($(name).value !== "") body[name] = Number($(name).value);
    }
    const file = $("video").files[0];
    if (file) {
      // The fields that need a video; without one the server would refuse them.
      body.video_container = $("video_container").value;
      body.original_audio = $("original_audio").value;
      if (body.original_audio === "mix") body.audio_files = "both";
      if (body.original_audio === "mix" && $("duck_db").value !== "") body.duck_db = Number($("duck_db").value);
      if (file.size === 0) throw new Error("The file is empty.");
      $("sending").hidden = false;
      body.video = await upload(file);
    }
    show(await call("POST", "/v1/jobs", body), true);
    $("video").value = "";
    chosen();
  } catch (error) {
    say(error.message);
  } finally {
    $("sending").hidden = true;
    $("submit").disabled = false;
  }
}

function chosen() {
  const file = $("video").files[0];
  $("drop-text").textContent = file ? `${file.name} (${(file.size / 1e6).toFixed(1)} MB)` : "Choose a video, or drop one here.";
}

function noteVariant() {
  const variant = variants.find((v) => v.name === $("variant").value);
  const facts = variant?.note ? `${variant.name} is ${variant.note}.` : "";
  const text = variant && !variant.installed ? `No worker serves ${variant.name} at the moment; the job will wait.` : facts;
  $("note").textContent = text;
  $("note").hidden = !text;
}

// ---- the list

const title = (job) => job.request.prompt || (job.request.video ? "Video without prompt" : "No prompt");

function facts(job) {
  const parts = [job.request.variant, `seed ${job.request.seed}`];
  if (job.request.duration_s) parts.push(`${Number(job.request.duration_s.toFixed(2))} s`);
  if (job.state === "queued" && job.queue_position) parts.push(`position ${job.queue_position} in the queue`);
  if (job.state === "running") parts.push(job.cancel_requested ? "stopping" : job.stage + (job.step ? ` ${job.step}/${job.request.num_steps}` : ""));
  if (job.state === "running" && job.eta_s !== null) parts.push(`${Math.ceil(job.eta_s)} s left`);
  if (job.timings.total_s) parts.push(`took ${job.timings.total_s.toFixed(1)} s`);
  if (job.attempt > 1) parts.push(`attempt ${job.attempt} of ${job.max_attempts}`);
  parts.push(new Date(job.created_at).toLocaleString());
  return parts.join(" · ");
}

function button(text, label, action) {
  const node = document.createElement("button");
  node.type = "button";
  node.className = "plain";
  node.textContent = text;
  node.setAttribute("aria-label", label);
  node.addEventListener("click", async () => {
    node.disabled = true;
    try { await action(); } catch (error) { say(error.message); }
    node.disabled = false;
    poll();
  });
  return node;
}

function players(job) {
  return job.artifacts.filter((a) => a.url).map((artifact) => {
    const player = document.createElement(artifact.kind === "video" ? "video" : "audio");
    player.controls = true;
    player.preload = "metadata";
    player.src = artifact.url;
    player.setAttribute("aria-label", artifact.name);
    player.addEventListener("error", async () => {
      if (!player.error || player.error.code === MediaError.MEDIA_ERR_ABORTED) return;
      const why = await whyNotLoaded(artifact.url);
      const note = document.createElement("p");
      note.className = "problem";
      note.setAttribute("role", "alert");
      note.textContent = why || `${artifact.name} could not be played: this browser does not know the format, or cannot reach ` +
        "the object store that the file is on (MMAUDIO_S3_PUBLIC_ENDPOINT_URL). Try the download.";
      player.replaceWith(note);
    });
    return player;
  });
}

// A download that fails would show a page of JSON, or nothing; asked first, its reason is shown in this page.
function downloadLink(artifact) {
  const link = document.createElement("a");
  link.href = `${artifact.url}&download=1`;
  link.download = artifact.name;
  link.textContent = `Download ${artifact.name}`;
  link.addEventListener("click", async (event) => {
    if (link.dataset.checked) return;
    event.preventDefault();
    const why = await whyNotLoaded(link.href);
    say(why);
    if (why) return;
    link.dataset.checked = "yes";
    link.click();
    delete link.dataset.checked;
  });
  return link;
}

function actions(job) {
  const nodes = job.artifacts.map((artifact) => {
    if (!artifact.url) {
      const gone = document.createElement("span");
      gone.className = "quiet";
      const past = artifact.expires_at && new Date(artifact.expires_at) <= new Date();
      gone.textContent = past
        ? `${artifact.name} was kept until ${new Date(artifact.expires_at).toLocaleString()}`
        : `${artifact.name} is no longer in the object store`;
      return gone;
    }
    return downloadLink(artifact);
  });
  if (job.links.cancel && !job.cancel_requested) {
    nodes.push(button("Cancel", `Cancel ${title(job)}`, () => call("POST", job.links.cancel)));
  }
  if (job.links.retry) {
    nodes.push(button("Retry", `Retry ${title(job)}`, async () => show(await call("POST", job.links.retry), true)));
  }
  return nodes;
}

function show(job, first = false) {
  let row = rows.get(job.id);
  if (!row) {
    const node = $("job-template").content.firstElementChild.cloneNode(true);
    node.dataset.id = job.id;
    row = { node, seen: "" };
    rows.set(job.id, row);
    if (first) $("jobs").prepend(node); else insert(node, job.id);
  }
  const seen = JSON.stringify({ ...job, artifacts: job.artifacts.map((a) => [a.name, a.expired]) });
  if (seen === row.seen) return; // keeps a playing player untouched
  row.seen = seen;
  const part = (selector) => row.node.querySelector(selector);
  row.node.className = `card job ${job.state}`;
  part(".title").textContent = title(job);
  part(".state").textContent = job.state;
  part(".facts").textContent = facts(job);
  part("progress").hidden = job.state !== "running";
  part("progress").value = job.progress;
  part(".problem").hidden = !job.error;
  part(".problem").textContent = job.error?.message ?? "";
  part(".warnings").replaceChildren(...job.warnings.map((w) => Object.assign(document.createElement("li"), { textContent: w.message })));
  if (part(".players").childElementCount !== job.artifacts.filter((a) => a.url).length) part(".players").replaceChildren(...players(job));
  part(".actions").replaceChildren(...actions(job));
  $("empty").hidden = rows.size > 0;
}

// Ids sort by time, newest first in the list.
function insert(node, id) {
  const next = [...$("jobs").children].find((other) => other.dataset.id < id);
  $("jobs").insertBefore(node, next ?? null);
}

// ---- polling

async function poll() {
  if (document.hidden || !$("login").hidden) return;
  try {
    const response = await send("/v1/jobs?limit=30", { headers: etag ? { "If-None-Match": etag } : {} });
    if (response.status !== 304) {
      if (!response.ok) throw new Error(`The server answered ${response.status}.`);
      etag = response.headers.get("ETag");
      const page = await response.json();
      page.data.forEach((job) => show(job));
      if (olderCursor === null) setOlder(page.next_cursor);
      $("empty").hidden = rows.size > 0;
    }
    await refreshStats();
  } catch (error) {
    etag = null;
    $("stats").textContent = `No connection: ${error.message}`;
  }
}

function setOlder(cursor) {
  olderCursor = cursor ?? "";
  $("more").hidden = !cursor;
}

async function older() {
  const page = await call("GET", `/v1/jobs?limit=30&cursor=${encodeURIComponent(olderCursor)}`);
  page.data.forEach((job) => show(job));
  setOlder(page.next_cursor);
}

async function refreshStats() {
  const [queue, workers] = await Promise.all([call("GET", "/v1/queue"), call("GET", "/v1/workers")]);
  const alive = Object.entries(workers.counts).reduce((sum, [state, count]) => (state === "lost" || state === "stopped" ? sum : sum + count), 0);
  $("stats").textContent = `${queue.running} running · ${queue.queued} queued · ${alive} worker${alive === 1 ? "" : "s"}`;
  const down = workers.data.filter((w) => w.state === "unavailable");
  $("trouble").hidden = down.length === 0;
  $("trouble").textContent = down.length
    ? `${down.length} of ${alive} worker${alive === 1 ? "" : "s"} take${down.length === 1 ? "s" : ""} no jobs: ${down[0].unavailable.message} Jobs wait; none is lost.`
    : "";
}

async function loadVariants() {
  variants = (await call("GET", "/v1/variants")).data;
  $("variant").replaceChildren(...variants.map((v) => Object.assign(document.createElement("option"), { value: v.name, textContent: v.name })));
  noteVariant();
}

$("new").addEventListener("submit", submit);
$("video").addEventListener("change", chosen);
$("variant").addEventListener("change", noteVariant);
$("more").addEventListener("click", () => older().catch((error) => say(error.message)));
for (const [name, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
  $("drop").addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", over);
    if (name === "drop" && event.dataTransfer.files.length) {
      $("video").files = event.dataTransfer.files;
      chosen();
    }
  });
}
document.addEventListener("visibilitychange", poll);
function begin() {
  say("");
  etag = null;
  loadVariants().catch((error) => say(error.message));
  poll();
}

$("login").addEventListener("submit", useKey);
begin();
setInterval(poll, POLL_MS);

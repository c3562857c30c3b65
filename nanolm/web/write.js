// Writes with the model that lies beside this page, in the browser alone. Texts enter as text only.
const about = JSON.parse(document.querySelector("#data").textContent);
const part = (name) => document.querySelector(`#${name}`);
const say = (line) => (part("state").textContent = line);
const HALF = /\ufffd+$/; // the first bytes of a character, while the rest is still to come
const REDRAW = 30; // milliseconds of writing between two looks at the page
let [writing, stopped] = [false, false];

async function fetched(name) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`${name}: ${answer.status} ${answer.statusText}`);
  return answer;
}

async function load() {
  const parts = [import(about.runtime), fetched("model.onnx"), fetched("tokenizer.json")];
  const [ort, graph, file] = await Promise.all(parts);
  ort.env.wasm.numThreads = 1; // more need headers that a plain host doesn't send
  const session = await ort.InferenceSession.create(await graph.arrayBuffer(), { executionProviders: ["wasm"] });
  return { ort, session, tokenizer: makeTokenizer(await file.json()) };
}

// The keys and values of no token yet.
function emptyCache({ ort, session }) {
  const sizes = [1, about.key_heads, 0, about.head_dims];
  const names = session.inputNames.filter((name) => name.startsWith("past"));
  return Object.fromEntries(names.map((name) => [name, new ort.Tensor("float32", new Float32Array(0), sizes)]));
}

// The model reads ids behind those in the cache: the logits of what follows, and the cache of all.
async function step({ ort, session }, ids, cache) {
  const row = new ort.Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]);
  const { logits, ...present } = await session.run({ ids: row, ...cache });
  const past = Object.entries(present).map(([name, values]) => [name.replace("present", "past"), values]);
  return [logits.data, Object.fromEntries(past)];
}

// The likeliest token at temperature 0, else one by chance. <PAD> <UNK> <BOS> are never written.
function pick(logits, temperature) {
  let best = EOS;
  for (let id = EOS; id < logits.length; id++) if (logits[id] > logits[best]) best = id;
  if (temperature === 0) return best;
  const weights = logits.slice(EOS).map((logit) => Math.exp((logit - logits[best]) / temperature));
  let left = Math.random() * weights.reduce((sum, weight) => sum + weight, 0);
  const drawn = weights.findIndex((weight) => (left -= weight) < 0);
  return drawn < 0 ? best : EOS + drawn; // sums in float32 may leave a rest
}

// <BOS> and the prompt; of one that is too long its last tokens, with room for new ones. And what is to be said of it.
function readPrompt({ tokenizer }, text, wanted) {
  const unknown = [...new Set(tokenizer.unknown(text))];
  const told = unknown.length ? [`not in the vocabulary, read as <UNK>: ${unknown.join(", ")}`] : [];
  const ids = tokenizer.encode(text);
  if (ids.length < about.context) return [[BOS, ...ids], told];
  const kept = about.context - Math.max(1, Math.min(wanted, Math.floor(about.context / 4)));
  told.push(`prompt of ${ids.length} tokens: only its last ${kept} are read, the context is ${about.context}`);
  return [[BOS, ...ids.slice(-kept)], told];
}

// The text after the prompt, as it grows.
async function* continuation(model, ids, wanted, temperature) {
  const last = ids.at(-1);
  const start = model.tokenizer.decode([last]).length; // a word's space depends on what is before it
  const most = Math.min(wanted, about.context + 1 - ids.length);
  const written = [];
  let cache = emptyCache(model);
  let logits;
  for (let next = ids; written.length < most; next = [written.at(-1)]) {
    [logits, cache] = await step(model, next, cache);
    written.push(pick(logits, temperature));
    yield model.tokenizer.decode([last, ...written]).slice(start);
    if (written.at(-1) === EOS) return;
  }
}

async function write(model) {
  const prompt = model.tokenizer.normalise(part("prompt").value);
  const [wanted, temperature] = [part("tokens").valueAsNumber || 1, part("temperature").valueAsNumber];
  const [ids, told] = readPrompt(model, prompt, wanted);
  part("told").textContent = told.join("; ");
  part("given").textContent = prompt;
  const began = performance.now();
  let [text, tokens, drawn] = ["", 0, began];
  for await (text of continuation(model, ids, wanted, temperature)) {
    tokens++;
    if (performance.now() - drawn > REDRAW) {
      part("written").textContent = text.replace(HALF, "");
      await new Promise((done) => setTimeout(done));
      drawn = performance.now();
    }
    if (stopped) break;
  }
  part("written").textContent = text;
  const full = ids.length + tokens > about.context ? "; the context is full" : "";
  say(`${tokens} tokens, ${Math.round((1000 * tokens) / (performance.now() - began))} a second${full}`);
}

async function start() {
  const model = await load();
  part("temperature").oninput = () => (part("degree").textContent = part("temperature").value);
  part("go").disabled = false;
  say("");
  part("form").onsubmit = async (event) => {
    event.preventDefault();
    stopped = writing;
    if (writing) return;
    writing = true;
    part("go").textContent = "Stop";
    await write(model).catch((error) => say(`${error}`));
    writing = false;
    part("go").textContent = "Write";
  };
}

start().catch((error) => say(`This page can't write: ${error.message}. It has to come from a server, as python -m http.server.`));

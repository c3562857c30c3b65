// nanolm's tokenizers in a browser: tokenizer.json -> text to ids and back, as nanolm/text.py and nanolm/tokenizer/ do it.
// Knows no model and no page.
const [PAD, UNK, BOS, EOS] = [0, 1, 2, 3];
const ENDS = /[.!?…。！？]/gu;
const NOTHING = /['’‘ʼ`´′＇\ufe00-\ufe0f\u{e0100}-\u{e01ef}\p{N}\p{Cf}\p{Me}]/gu; // vanishes: "don't" is one word
const CITATION = /\[(?:(?:note |nb )?\p{Nd}{1,9}|[a-z]|[a-z ]{1,40} needed)\]/gu;
// GPT-2's cut before merging, with Rust's \s for JavaScript's
const WORDS =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

function normalise(text, mode) {
  if (mode === "none") return text.replace(/^\ufeff+/, "").replace(/\r\n?/g, "\n").replace(/\p{Cs}/gu, "\ufffd");
  const plain = text.toLowerCase().replace(CITATION, "").replace(ENDS, ".").replace(NOTHING, "");
  const letters = plain.replace(/[^\p{L}\p{M}.]/gu, " ").normalize("NFC").replaceAll(".", " . ");
  return letters.replace(/ +/g, " ").trim().replace(/\.(?: \.)+/g, ".");
}

// The pieces that a table of tokens looks up. `cut`: the pre_tokenizer of tokenizer.json.
function splitter(cut) {
  if ("Regex" in cut.pattern) {
    const pattern = new RegExp(cut.pattern.Regex.replaceAll("\\x{", "\\u{"), "gu");
    return (text) => text.match(pattern) ?? [];
  }
  return (text) => (!text ? [] : cut.pattern.String ? text.split(cut.pattern.String) : [...text]);
}

// Each byte as a character that shows, and back: those of Latin-1 that do stand for themselves, the rest follow them.
function byteAlphabet() {
  const shown = (byte) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  let next = 256;
  const spelled = [...Array(256).keys()].map((byte) => String.fromCharCode(shown(byte) ? byte : next++));
  return [spelled, new Map(spelled.map((sign, byte) => [sign, byte]))];
}

// Merges neighbours, the earliest learned pair first, until no learned pair is left.
function merged(parts, ranks) {
  for (;;) {
    let best = Infinity;
    for (let i = 1; i < parts.length; i++) best = Math.min(best, ranks.get(`${parts[i - 1]} ${parts[i]}`) ?? Infinity);
    if (best === Infinity) return parts;
    const joined = [];
    for (const part of parts) {
      const pair = `${joined.at(-1)} ${part}`;
      if (joined.length && ranks.get(pair) === best) joined[joined.length - 1] += part;
      else joined.push(part);
    }
    parts = joined;
  }
}

function makeTokenizer({ pre_tokenizer, decoder, model }) {
  const tokens = Object.keys(model.vocab).sort((a, b) => model.vocab[a] - model.vocab[b]);
  const ids = new Map(tokens.map((token, id) => [token, id]).slice(4)); // a typed <EOS> is text
  const shown = (some) => some.filter((id) => ![PAD, BOS, EOS].includes(id)).map((id) => tokens[id]);
  const own = { normalise: (text) => normalise(text, model.nanolm.normalise), token: (id) => tokens[id] };
  if (model.type !== "BPE") {
    const split = splitter(pre_tokenizer);
    const unknown = (text) => split(text).filter((piece) => !ids.has(piece));
    const encode = (text) => split(text).map((piece) => ids.get(piece) ?? UNK);
    return { ...own, encode, unknown, decode: (some) => shown(some).join(decoder ? "" : " ") };
  }
  const [spelled, bytes] = byteAlphabet();
  const ranks = new Map(model.merges.map((pair, rank) => [pair.join(" "), rank]));
  const spell = (word) => Array.from(new TextEncoder().encode(word), (byte) => spelled[byte]);
  const encode = (text) => (text.match(WORDS) ?? []).flatMap((word) => merged(spell(word), ranks).map((part) => ids.get(part)));
  const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
  const decode = (some) => utf8.decode(Uint8Array.from([...shown(some).join("")], (sign) => bytes.get(sign)));
  return { ...own, encode, decode, unknown: () => [] };
}

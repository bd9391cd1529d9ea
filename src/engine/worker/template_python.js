// Python's semantics for chat templates: values, operators, methods, tests and filters as in jinja2, in the sandbox
// that Hugging Face transformers uses. This text is evaluated in @huggingface/jinja's own module, right after it, so
// the bundle's names are in scope; template_run.js follows. test/templates compares the result with jinja2.

const MAX_RANGE = 100000; // as in jinja2's sandbox
const MAX_STRING = 32 << 20;
// What runs in one native call cannot be interrupted by the deadline: searching is bounded, and around work on long
// strings that allocates nothing the deadline is looked at (tick, which C provides; allocations do it by themselves).
const MAX_SEARCH = 1e9; // characters compared
const LONG = 4096;
const tick = globalThis.tick;

const NONE = new NullValue(null);
const UNDEFINED = new UndefinedValue();
const text = (s) => new StringValue(s);
const int = (n) => new IntegerValue(n);
const bool = (b) => new BooleanValue(b);
const isString = (v) => v instanceof StringValue;
const isUndefined = (v) => v instanceof UndefinedValue;
const isNone = (v) => v instanceof NullValue;
const isNumber = isNumericLikeValue;
const isFloat = (v) => v instanceof FloatValue;
const isArray = (v) => v instanceof ArrayValue;
const isDict = (v) => v instanceof ObjectValue;
const truthy = (v) => v.__bool__().value;
const number = getNumericValue;

function fail(message) {
  throw new Error(message);
}
function overLimit(message) {
  throw Object.assign(new Error(message), { limit: true });
}

// ---- strings as sequences of code points
const points = (s) => (/[\ud800-\udfff]/.test(s) ? Array.from(s) : s);
const SPACE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const IS_SPACE = new RegExp(`[${SPACE}]`);
const LINE_END = /\r\n|[\n\v\f\r\x1c-\x1e\x85\u2028\u2029]/;

function strip(s, chars, left, right) {
  const set = chars === null ? null : new Set(Array.from(chars));
  const p = points(s);
  const drop = (c) => (set ? set.has(c) : IS_SPACE.test(c));
  let from = 0;
  let to = p.length;
  while (left && from < to && drop(p[from])) ++from;
  while (right && to > from && drop(p[to - 1])) --to;
  return typeof p === "string" ? p.slice(from, to) : p.slice(from, to).join("");
}
function splitLines(s, keepEnds) {
  const lines = s.split(keepEnds ? new RegExp(`(?<=${LINE_END.source})(?<!\\r(?=\\n))`) : LINE_END);
  if (lines.at(-1) === "") lines.pop();
  return lines;
}
function searchable(s, part) {
  if (s.length > LONG) tick();
  if (s.length * part.length > MAX_SEARCH) overLimit("it searches a very long text for a very long one");
}
function splitSpace(s, max) {
  const rest = strip(s, null, true, false);
  const out = [];
  let at = 0;
  for (const m of rest.matchAll(new RegExp(`[${SPACE}]+`, "g"))) {
    if (max >= 0 && out.length >= max) break;
    out.push(rest.slice(at, m.index));
    at = m.index + m[0].length;
  }
  if (at < rest.length) out.push(rest.slice(at));
  return out;
}
function split(s, sep, max, fromRight) {
  if (sep === "") fail("empty separator");
  searchable(s, sep);
  const parts = s.split(sep);
  if (max < 0 || parts.length - 1 <= max) return parts;
  if (!fromRight) return [...parts.slice(0, max), parts.slice(max).join(sep)];
  const keep = parts.length - max;
  return [parts.slice(0, keep).join(sep), ...parts.slice(keep)];
}
function replaceText(s, from, to, count) {
  const parts = from === "" ? ["", ...Array.from(s), ""] : split(s, from, -1, false);
  const n = count < 0 ? parts.length - 1 : Math.min(count, parts.length - 1);
  if (s.length + n * to.length > MAX_STRING) overLimit("it makes too long a text");
  return parts.slice(0, n + 1).join(to) + (n + 1 < parts.length ? from : "") + parts.slice(n + 1).join(from);
}
function repeat(s, n) {
  if (s.length * n > MAX_STRING) overLimit("it makes too long a text");
  return n > 0 ? s.repeat(n) : "";
}
const capitalize = (s) => points(s).slice(0, 1).toString().toUpperCase() + sliceOf(points(s), 1).toLowerCase();
const sliceOf = (p, from) => (typeof p === "string" ? p.slice(from) : p.slice(from).join(""));

// ---- str(), repr() and json.dumps()
function reprFloat(x) {
  if (Number.isNaN(x)) return "nan";
  if (!Number.isFinite(x)) return x < 0 ? "-inf" : "inf";
  if (Object.is(x, -0)) return "-0.0";
  const size = Math.abs(x);
  if (x === 0 || (size >= 1e-4 && size < 1e16)) return Number.isInteger(x) ? x.toFixed(1) : x.toString();
  return x.toExponential().replace(/e([+-])(\d)$/, "e$10$2");
}

function reprString(s) {
  const quote = s.includes("'") && !s.includes('"') ? '"' : "'";
  const hex = (c, n) => c.codePointAt(0).toString(16).padStart(n, "0");
  const escaped = s.replace(/[\\'"]|[^\P{C}]|(?! )\p{Z}/gu, (c) => {
    if (c === "\\" || c === quote) return "\\" + c;
    if (c === "'" || c === '"') return c;
    const short = { "\n": "\\n", "\r": "\\r", "\t": "\\t" }[c];
    if (short) return short;
    if (c > "\uffff" || c.length > 1) return "\\U" + hex(c, 8);
    return c > "\xff" ? "\\u" + hex(c, 4) : "\\x" + hex(c, 2);
  });
  return quote + escaped + quote;
}
function repr(v) {
  switch (v.type) {
    case "StringValue": return reprString(v.value);
    case "NullValue": return "None";
    case "BooleanValue": return v.value ? "True" : "False";
    case "IntegerValue": return String(v.value);
    case "FloatValue": return reprFloat(v.value);
    case "UndefinedValue": return "Undefined";
    case "TupleValue": return `(${v.value.map(repr).join(", ")}${v.value.length === 1 ? "," : ""})`;
    case "ArrayValue": return `[${v.value.map(repr).join(", ")}]`;
    case "ObjectValue": return `{${Array.from(v.value, ([k, x]) => `${reprString(k)}: ${repr(x)}`).join(", ")}}`;
    default: return fail("it prints a function or a namespace");
  }
}
const str = (v) => (isString(v) ? v.value : isUndefined(v) ? "" : repr(v));

function jsonString(s, ascii) {
  return ascii ? makeAsciiSafe(JSON.stringify(s)) : JSON.stringify(s);
}
function jsonBlock(open, items, close, form, depth) {
  if (items.length === 0) return open + close;
  if (form.indent === null) return open + items.join(form.comma) + close;
  const line = "\n" + form.indent.repeat(depth);
  return open + line + form.indent + items.join(form.comma + line + form.indent) + line + close;
}
function json(v, form, depth) {
  switch (v.type) {
    case "NullValue": return "null";
    case "BooleanValue": return String(v.value);
    case "IntegerValue":
    case "FloatValue": return repr(v).replace("nan", "NaN").replace("inf", "Infinity");
    case "StringValue": return jsonString(v.value, form.ascii);
    case "TupleValue":
    case "ArrayValue": return jsonBlock("[", v.value.map((x) => json(x, form, depth + 1)), "]", form, depth);
    case "ObjectValue": {
      const keys = Array.from(v.value.keys());
      if (form.sort) keys.sort();
      const member = (k) => jsonString(k, form.ascii) + form.colon + json(v.value.get(k), form, depth + 1);
      return jsonBlock("{", keys.map(member), "}", form, depth);
    }
    default: return fail("tojson: the value is undefined or not JSON");
  }
}
function tojson(v, [ascii, indent, separators, sort]) {
  const width = indent && !isNone(indent) ? (isString(indent) ? indent.value : repeat(" ", number(indent))) : null;
  const given = separators && isArray(separators) ? separators.value.map((s) => s.value) : null;
  const [comma, colon] = given ?? [width === null ? ", " : ",", ": "];
  return json(v, { ascii: flag(ascii), indent: width, comma, colon, sort: flag(sort) }, 0);
}

// ---- operators
function equal(a, b) {
  if (isNumber(a) && isNumber(b)) return number(a) == number(b); // also a BigInt with a Number
  if (isArray(a) && isArray(b)) {
    return a.type === b.type && a.value.length === b.value.length && a.value.every((x, i) => equal(x, b.value[i]));
  }
  if (isDict(a) && isDict(b)) {
    const same = ([k, x]) => b.value.has(k) && equal(x, b.value.get(k));
    return a.value.size === b.value.size && Array.from(a.value).every(same);
  }
  if (a.type !== b.type) return false;
  if (isString(a) && a.value.length > LONG) tick();
  return isString(a) ? a.value === b.value : isNone(a) || isUndefined(a) || a === b;
}
function compare(a, b) {
  if (isNumber(a) && isNumber(b)) return number(a) < number(b) ? -1 : number(a) > number(b) ? 1 : 0;
  if (isString(a) && a.value.length > LONG) tick();
  if (isString(a) && isString(b)) return a.value < b.value ? -1 : a.value > b.value ? 1 : 0;
  if (isArray(a) && isArray(b) && a.type === b.type) {
    for (let i = 0; i < Math.min(a.value.length, b.value.length); ++i) {
      if (!equal(a.value[i], b.value[i])) return compare(a.value[i], b.value[i]);
    }
    return a.value.length - b.value.length;
  }
  return fail(`${a.type} and ${b.type} cannot be ordered`);
}
function contains(box, item) {
  if (isArray(box)) return box.value.some((x) => equal(x, item));
  if (isDict(box)) return isString(item) && box.value.has(item.value);
  if (isUndefined(box)) return false;
  if (!isString(box) || !isString(item)) fail(`'in' does not work with ${item.type} and ${box.type}`);
  searchable(box.value, item.value);
  return box.value.includes(item.value);
}
// Python's integers have no bounds: what a Number cannot hold exactly fails rather than differ.
const exact = (z) => (Number.isSafeInteger(z) ? int(z) : fail("it computes with too large an integer"));
function arithmetic(op, a, b) {
  const [x, y] = [number(a), number(b)];
  if (typeof x === "bigint" || typeof y === "bigint") return exact(NaN);
  const result = (z) => (isFloat(a) || isFloat(b) ? new FloatValue(z) : exact(z));
  if (y == 0 && (op === "/" || op === "//" || op === "%")) fail("division by zero");
  switch (op) {
    case "+": return result(x + y);
    case "-": return result(x - y);
    case "*": return result(x * y);
    case "/": return new FloatValue(x / y);
    case "//": return result(Math.floor(x / y));
    case "%": return result(x - y * Math.floor(x / y));
    default: return fail(`unknown operator ${op}`);
  }
}
function power(a, b) {
  const z = Number(number(a)) ** Number(number(b));
  if (!Number.isFinite(z)) fail("a power that is no finite number");
  return isFloat(a) || isFloat(b) || number(b) < 0 ? new FloatValue(z) : exact(z);
}
function operate(op, a, b) {
  switch (op) {
    case "==": return bool(equal(a, b));
    case "!=": return bool(!equal(a, b));
    case "<": return bool(compare(a, b) < 0);
    case ">": return bool(compare(a, b) > 0);
    case "<=": return bool(compare(a, b) <= 0);
    case ">=": return bool(compare(a, b) >= 0);
    case "in": return bool(contains(b, a));
    case "not in": return bool(!contains(b, a));
    case "~": return text(str(a) + str(b));
  }
  if (isNumber(a) && isNumber(b)) return op === "**" ? power(a, b) : arithmetic(op, a, b);
  if (op === "+" && isString(a) && isString(b)) return text(a.value + b.value);
  if (op === "+" && isArray(a) && a.type === b.type) return new a.constructor(a.value.concat(b.value));
  if (op === "*" && isString(a) && b instanceof IntegerValue) return text(repeat(a.value, b.value));
  if (op === "*" && isString(b) && a instanceof IntegerValue) return text(repeat(b.value, a.value));
  return fail(`operator ${op} does not work with ${a.type} and ${b.type}`);
}

// ---- arguments, members, methods
// Positional and keyword arguments in the order of `names`; what was not given is undefined.
function bind(args, ...names) {
  const keywords = args.at(-1) instanceof KeywordArgumentsValue ? args.at(-1).value : new Map();
  const out = args.filter((a) => !(a instanceof KeywordArgumentsValue));
  if (out.length > names.length) fail("too many arguments");
  for (const [name, value] of keywords) {
    const at = names.indexOf(name);
    if (at < 0 || out[at] !== undefined) fail("unexpected keyword argument");
    out[at] = value;
  }
  return out;
}
const flag = (v) => v !== undefined && truthy(v);
function whole(v, other) {
  if (v === undefined || isNone(v)) return other;
  return isNumber(v) ? Number(number(v)) : fail("not a number");
}
const string = (v) => (v !== undefined && isString(v) ? v.value : fail("not a string"));
const stringOrNull = (v) => (v === undefined || isNone(v) ? null : string(v));

function elements(v) {
  if (isArray(v)) return v.value;
  if (isString(v)) return Array.from(v.value, text);
  if (isDict(v)) return Array.from(v.value.keys(), text);
  return isUndefined(v) ? [] : fail(`${v.type} cannot be iterated over`);
}
const list = (items) => new ArrayValue(items);
const strings = (items) => list(items.map(text));
const pairs = (v) => list(Array.from(v.value, ([k, x]) => new TupleValue([text(k), x])));

function affix(s, v, test) {
  if (s.length > LONG) tick();
  return bool(isArray(v) ? v.value.some((x) => test(string(x))) : test(string(v)));
}
function partition(s, sep, at) {
  return new TupleValue((at < 0 ? null : [s.slice(0, at), sep, s.slice(at + sep.length)].map(text)));
}
function formatText(s, args) {
  const named = args.at(-1) instanceof KeywordArgumentsValue ? args.at(-1).value : new Map();
  let next = 0;
  return s.replace(/\{\{|\}\}|\{(\w*)\}|[{}]/g, (m, key) => {
    if (m === "{{" || m === "}}") return m[0];
    if (key === undefined) fail("format: only {}, {0} and {name} are supported");
    const v = key === "" ? args[next++] : /^\d+$/.test(key) ? args[Number(key)] : named.get(key);
    return v === undefined || v === args.at(-1) && named.size ? fail("format: an argument is missing") : str(v);
  });
}
const every = (s, re) => bool(s !== "" && re.test(s));
const find = (s, args, last) => {
  searchable(s, string(args[0]));
  const at = last ? s.lastIndexOf(string(args[0])) : s.indexOf(string(args[0]));
  return at < 0 ? -1 : points(s.slice(0, at)).length;
};
const found = (n) => (n < 0 ? fail("substring not found") : int(n));

const STRING_METHODS = new Map(Object.entries({
  upper: (s) => text(s.toUpperCase()),
  lower: (s) => text(s.toLowerCase()),
  casefold: (s) => text(s.toLowerCase()),
  capitalize: (s) => text(capitalize(s)),
  title: (s) => text(s.replace(/\p{L}+/gu, capitalize)),
  strip: (s, a) => text(strip(s, stringOrNull(a[0]), true, true)),
  lstrip: (s, a) => text(strip(s, stringOrNull(a[0]), true, false)),
  rstrip: (s, a) => text(strip(s, stringOrNull(a[0]), false, true)),
  removeprefix: (s, a) => text(s.startsWith(string(a[0])) ? s.slice(a[0].value.length) : s),
  removesuffix: (s, a) => text(s.endsWith(string(a[0])) ? s.slice(0, s.length - a[0].value.length) : s),
  startswith: (s, a) => affix(s, a[0], (x) => s.startsWith(x)),
  endswith: (s, a) => affix(s, a[0], (x) => s.endsWith(x)),
  split: (s, a) => splitMethod(s, a, false),
  rsplit: (s, a) => splitMethod(s, a, true),
  splitlines: (s, a) => strings(splitLines(s, flag(bind(a, "keepends")[0]))),
  partition: (s, a) => {
    find(s, a, false);
    const at = s.indexOf(a[0].value);
    return at < 0 ? new TupleValue([s, "", ""].map(text)) : partition(s, a[0].value, at);
  },
  rpartition: (s, a) => {
    find(s, a, true);
    const at = s.lastIndexOf(a[0].value);
    return at < 0 ? new TupleValue(["", "", s].map(text)) : partition(s, a[0].value, at);
  },
  replace: (s, a) => {
    const [from, to, count] = bind(a, "old", "new", "count");
    return text(replaceText(s, string(from), string(to), whole(count, -1)));
  },
  join: (s, a) => text(elements(a[0] ?? UNDEFINED).map(string).join(s)),
  count: (s, a) => int((string(a[0]) === "" ? points(s).length + 1 : split(s, a[0].value, -1, false).length - 1)),
  find: (s, a) => int(find(s, a, false)),
  rfind: (s, a) => int(find(s, a, true)),
  index: (s, a) => found(find(s, a, false)),
  rindex: (s, a) => found(find(s, a, true)),
  format: (s, a) => text(formatText(s, a)),
  zfill: (s, a) => text(s.replace(/^[+-]?/, (sign) => sign + repeat("0", whole(a[0]) - points(s).length))),
  isdigit: (s) => every(s, /^\p{Nd}+$/u),
  isalpha: (s) => every(s, /^\p{L}+$/u),
  isalnum: (s) => every(s, /^[\p{L}\p{N}]+$/u),
  isspace: (s) => every(s, new RegExp(`^[${SPACE}]+$`)),
  isupper: (s) => bool(s === s.toUpperCase() && s !== s.toLowerCase()),
  islower: (s) => bool(s === s.toLowerCase() && s !== s.toUpperCase()),
}));
function splitMethod(s, args, fromRight) {
  const [sep, max] = bind(args, "sep", "maxsplit");
  const n = whole(max, -1);
  if (sep !== undefined && !isNone(sep)) return strings(split(s, string(sep), n, fromRight));
  return fromRight && n >= 0 ? fail("rsplit without a separator is not supported") : strings(splitSpace(s, n));
}
const DICT_METHODS = new Map(Object.entries({
  get: (d, [key, other]) => (isString(key) ? d.get(key.value) : undefined) ?? other ?? NONE,
  items: (d) => pairs({ value: d }),
  keys: (d) => strings(Array.from(d.keys())),
  values: (d) => list(Array.from(d.values())),
  copy: (d) => new ObjectValue(d),
}));
const ARRAY_METHODS = new Map(Object.entries({
  index: (a, [x]) => found(a.findIndex((y) => equal(x, y))),
  count: (a, [x]) => int(a.filter((y) => equal(x, y)).length),
}));

function methodOf(v, name) {
  const table = isString(v) ? STRING_METHODS : isDict(v) ? DICT_METHODS : isArray(v) ? ARRAY_METHODS : null;
  const method = table?.get(name);
  return method && new FunctionValue((args) => method(v.value, args));
}
// x.name looks for attributes first, x["name"] for items first, as in jinja2.
function member(object, key, dotted) {
  if (isUndefined(object)) fail("it looks into an undefined value");
  if (isString(key)) {
    const item = isAttributeContainer(object) ? object.value.get(key.value) : undefined;
    return (dotted ? methodOf(object, key.value) ?? item : item ?? methodOf(object, key.value)) ?? UNDEFINED;
  }
  if (!(isArray(object) || isString(object)) || !isNumber(key) || isFloat(key)) return UNDEFINED;
  const item = isArray(object) ? object.value.at(number(key)) : points(object.value).at(number(key));
  return item === undefined ? UNDEFINED : isArray(object) ? item : text(item);
}
function sliced(p, start, stop, step) {
  if (step === 0) fail("slice step cannot be zero");
  const [low, high] = step > 0 ? [0, p.length] : [-1, p.length - 1];
  const clamp = (i, other) => (i === null ? other : Math.min(Math.max(i < 0 ? i + p.length : i, low), high));
  const from = clamp(start, step > 0 ? low : high);
  const to = clamp(stop, step > 0 ? high : low);
  if (step === 1) return p.slice(from, Math.max(from, to));
  const out = [];
  for (let i = from; step > 0 ? i < to : i > to; i += step) out.push(p[i]);
  return out;
}

// ---- tests and filters
const TESTS = Environment.TESTS;
for (const [name, test] of Object.entries({
  odd: (v) => (isNumber(v) ? Math.abs(Number(number(v)) % 2) === 1 : fail("odd: not a number")),
  even: (v) => (isNumber(v) ? Number(number(v)) % 2 === 0 : fail("even: not a number")),
  callable: (v) => v instanceof FunctionValue || isUndefined(v),
  float: isFloat,
  number: isNumber,
  iterable: (v) => isArray(v) || isString(v) || isDict(v) || isUndefined(v),
  sequence: (v) => isArray(v) || isString(v) || isDict(v) || isUndefined(v),
  lower: (v) => { const s = str(v); return s === s.toLowerCase() && s !== s.toUpperCase(); },
  upper: (v) => { const s = str(v); return s === s.toUpperCase() && s !== s.toLowerCase(); },
  eq: equal,
  equalto: equal,
  "==": equal,
  ne: (a, b) => !equal(a, b),
  "!=": (a, b) => !equal(a, b),
  lt: (a, b) => compare(a, b) < 0,
  le: (a, b) => compare(a, b) <= 0,
  gt: (a, b) => compare(a, b) > 0,
  ge: (a, b) => compare(a, b) >= 0,
  in: (a, b) => contains(b, a),
})) TESTS.set(name, test);

function testNamed(name) {
  return TESTS.get(name) ?? fail("unknown test");
}
function attributeOf(v, path) {
  const key = (part) => (/^\d+$/.test(part) ? int(Number(part)) : text(part));
  return path.split(".").reduce((x, part) => member(x, key(part), false), v);
}
// What an optional attribute argument picks from an item.
function picker(attribute) {
  if (attribute === undefined || isNone(attribute)) return (v) => v;
  return isString(attribute) ? (v) => attributeOf(v, attribute.value) : (v) => member(v, attribute, false);
}
const folded = (v) => (isString(v) ? text(v.value.toLowerCase()) : v);

function chosen(items, wanted, args, pick) {
  const test = args.length ? testNamed(string(args[0])) : truthy;
  return list(items.filter((v) => Boolean(test(pick(v), ...args.slice(1))) === wanted));
}
function sorted(items, args) {
  const [reverse, caseSensitive, attribute] = bind(args, "reverse", "case_sensitive", "attribute");
  const pick = picker(attribute);
  const key = (v) => (flag(caseSensitive) ? pick(v) : folded(pick(v)));
  const sign = flag(reverse) ? -1 : 1;
  return list(items.slice().sort((a, b) => sign * compare(key(a), key(b))));
}
function dictSorted(d, args) {
  const [caseSensitive, by, reverse] = bind(args, "case_sensitive", "by", "reverse");
  const at = by !== undefined && by.value === "value" ? 1 : 0;
  const key = new KeywordArgumentsValue(new Map([["attribute", int(at)], ["reverse", bool(flag(reverse))],
    ["case_sensitive", bool(flag(caseSensitive))]]));
  return sorted(pairs(d).value, [key]);
}
function unique(items, args) {
  const [caseSensitive, attribute] = bind(args, "case_sensitive", "attribute");
  const pick = picker(attribute);
  const seen = new Set();
  return list(items.filter((v) => {
    const key = flag(caseSensitive) ? pick(v) : folded(pick(v));
    const id = (isNumber(key) ? "n" + Number(number(key)) : repr(key));
    return !seen.has(id) && seen.add(id);
  }));
}
function extreme(items, args, sign) {
  const [caseSensitive, attribute] = bind(args, "case_sensitive", "attribute");
  const pick = picker(attribute);
  const key = (v) => (flag(caseSensitive) ? pick(v) : folded(pick(v)));
  return items.length ? items.reduce((best, v) => (sign * compare(key(v), key(best)) > 0 ? v : best)) : UNDEFINED;
}
function mapped(items, args) {
  if (!(args.at(-1) instanceof KeywordArgumentsValue)) {
    return list(items.map((v) => applyNamed(string(args[0]), v, args.slice(1))));
  }
  const [attribute, other] = bind(args, "attribute", "default");
  const pick = picker(attribute);
  return list(items.map((v) => { const x = pick(v); return isUndefined(x) && other ? other : x; }));
}
function indented(s, args) {
  const [width, first, blank] = bind(args, "width", "first", "blank");
  const pad = width !== undefined && isString(width) ? width.value : repeat(" ", whole(width, 4));
  const lines = splitLines(s + "\n", false);
  const rest = lines.map((l, i) => (i && (l || flag(blank)) ? pad + l : l)).join("\n");
  return flag(first) ? pad + rest : rest;
}
const NUMBER = /^[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i;
function toInt(v, [other]) {
  if (isNumber(v)) return isFloat(v) ? int(Math.trunc(v.value)) : int(Number(number(v)));
  const s = isString(v) ? strip(v.value, null, true, true) : "";
  return NUMBER.test(s) ? int(Math.trunc(Number(s))) : other ?? int(0);
}
function toFloat(v, [other]) {
  if (isNumber(v)) return new FloatValue(Number(number(v)));
  const s = isString(v) ? strip(v.value, null, true, true) : "";
  return NUMBER.test(s) ? new FloatValue(Number(s)) : other ?? new FloatValue(0);
}
function rounded(v, args) {
  const [precision, method] = bind(args, "precision", "method");
  const scale = 10 ** whole(precision, 0);
  const x = Number(number(v)) * scale;
  const how = method === undefined ? "common" : method.value;
  const even = (y) => (Math.abs(y % 1) === 0.5 ? 2 * Math.round(y / 2) : Math.round(y));
  const z = how === "ceil" ? Math.ceil(x) : how === "floor" ? Math.floor(x) : even(x);
  return how === "common" && !isFloat(v) ? v : new FloatValue(z / scale);
}
const ESCAPES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&#34;", "'": "&#39;" };
function lengthOf(v) {
  if (isString(v)) return points(v.value).length;
  return isDict(v) ? v.value.size : elements(v).length;
}
function joined(v, args) {
  const [by, attribute] = bind(args, "d", "attribute");
  return text(elements(v).map((x) => str(picker(attribute)(x))).join(by === undefined ? "" : str(by)));
}
function defaulted(v, args) {
  const [other, falsy] = bind(args, "default_value", "boolean");
  return isUndefined(v) || (flag(falsy) && !truthy(v)) ? other ?? text("") : v;
}

const FILTERS = new Map(Object.entries({
  safe: (v) => text(str(v)),
  string: (v) => text(str(v)),
  tojson: (v, a) => text(tojson(v, bind(a, "ensure_ascii", "indent", "separators", "sort_keys"))),
  length: (v) => int(lengthOf(v)),
  count: (v) => int(lengthOf(v)),
  first: (v) => elements(v)[0] ?? UNDEFINED,
  last: (v) => elements(v).at(-1) ?? UNDEFINED,
  list: (v) => list(elements(v)),
  items: (v) => (isUndefined(v) ? list([]) : isDict(v) ? pairs(v) : fail("items: not a mapping")),
  reverse: (v) => (isString(v) ? text(Array.from(v.value).reverse().join("")) : list(elements(v).slice().reverse())),
  join: joined,
  default: defaulted,
  d: defaulted,
  map: (v, a) => mapped(elements(v), a),
  select: (v, a) => chosen(elements(v), true, a, (x) => x),
  reject: (v, a) => chosen(elements(v), false, a, (x) => x),
  selectattr: (v, [attribute, ...a]) => chosen(elements(v), true, a, picker(attribute)),
  rejectattr: (v, [attribute, ...a]) => chosen(elements(v), false, a, picker(attribute)),
  sort: (v, a) => sorted(elements(v), a),
  dictsort: (v, a) => (isDict(v) ? dictSorted(v, a) : fail("dictsort: not a mapping")),
  unique: (v, a) => unique(elements(v), a),
  min: (v, a) => extreme(elements(v), a, -1),
  max: (v, a) => extreme(elements(v), a, 1),
  sum: (v, a) => {
    const [attribute, start] = bind(a, "attribute", "start");
    return elements(v).map(picker(attribute)).reduce((x, y) => operate("+", x, y), start ?? int(0));
  },
  trim: (v, a) => text(strip(str(v), stringOrNull(bind(a, "chars")[0]), true, true)),
  upper: (v) => text(str(v).toUpperCase()),
  lower: (v) => text(str(v).toLowerCase()),
  capitalize: (v) => text(capitalize(str(v))),
  title: (v) => text(str(v).split(/([-\s({[<]+)/).map(capitalize).join("")),
  replace: (v, a) => {
    const [from, to, count] = bind(a, "old", "new", "count");
    return text(replaceText(str(v), string(from), string(to), whole(count, -1)));
  },
  indent: (v, a) => text(indented(string(v), a)),
  escape: (v) => text(str(v).replace(/[&<>"']/g, (c) => ESCAPES[c])),
  e: (v) => text(str(v).replace(/[&<>"']/g, (c) => ESCAPES[c])),
  wordcount: (v) => int((str(v).match(/[\p{L}\p{N}_]+/gu) ?? []).length),
  int: (v, a) => toInt(v, bind(a, "default", "base")),
  float: (v, a) => toFloat(v, bind(a, "default")),
  abs: (v) => {
    if (!isNumber(v)) fail("abs: not a number");
    return isFloat(v) ? new FloatValue(Math.abs(v.value)) : exact(Math.abs(Number(number(v))));
  },
  round: (v, a) => (isNumber(v) ? rounded(v, a) : fail("round: not a number")),
  attr: (v, a) => member(v, text(string(a[0])), true),
}));
function applyNamed(name, v, args) {
  const filter = FILTERS.get(name);
  return filter ? filter(v, args) : fail("unknown filter");
}

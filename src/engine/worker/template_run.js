// The rest of the module that template_python.js continues: what @huggingface/jinja's interpreter does differently from
// jinja2 is replaced, and the functions that C calls are put into globalThis.nebulus. From C: strftime(format), tick().
//
// Left as they are, for no chat template seen so far needs them. Not parsed: tests with arguments (x is divisibleby(3)),
// recursive loops, raw blocks, (1,), numbers with exponents, several templates. Chained comparisons (1 < x < 3) go from
// left to right. Lazy objects of Python (generators, range, dict views) are lists here, which shows when they are
// printed or asked for their truth.

function childOf(parent) {
  return Object.assign(Object.create(Environment.prototype), { parent, variables: new Map(), tests: TESTS });
}
Environment.prototype.lookupVariable = function (name) {
  for (let scope = this; scope; scope = scope.parent) {
    const value = scope.variables.get(name);
    if (value !== undefined) return value;
  }
  return UNDEFINED;
};
function assign(target, value, scope) {
  if (target.type !== "TupleLiteral") return scope.setVariable(target.value, value);
  const parts = elements(value);
  if (parts.length !== target.value.length) fail("the wrong number of values to unpack");
  target.value.forEach((t, i) => assign(t, parts[i], scope));
}
function loopVariable(items, i, state) {
  const changed = (args) => {
    const key = repr(list(args));
    const before = state.changed;
    state.changed = key;
    return bool(key !== before);
  };
  return new NamespaceValue(new Map(Object.entries({
    index: int(i + 1),
    index0: int(i),
    revindex: int(items.length - i),
    revindex0: int(items.length - i - 1),
    first: bool(i === 0),
    last: bool(i === items.length - 1),
    length: int(items.length),
    depth: int(1),
    depth0: int(0),
    previtem: items[i - 1] ?? UNDEFINED,
    nextitem: items[i + 1] ?? UNDEFINED,
    cycle: new FunctionValue((args) => args[i % args.length] ?? fail("no items for cycling given")),
    changed: new FunctionValue(changed),
  })));
}
const isControl = (e) => e instanceof BreakControl || e instanceof ContinueControl;
const SILENT = new Set(["Set", "Macro", "Comment"]);

Object.assign(Interpreter.prototype, {
  evaluateBlock(statements, scope) {
    const out = [];
    try {
      for (const statement of statements) {
        const value = this.evaluate(statement, scope);
        if (!SILENT.has(statement.type)) out.push(str(value));
      }
    } catch (e) {
      if (isControl(e)) e.before = out.join("") + (e.before ?? ""); // what was written before a break stays
      throw e;
    }
    return text(out.join(""));
  },
  evaluateBinaryExpression(node, scope) {
    const op = node.operator.value;
    const left = this.evaluate(node.left, scope);
    if (op === "and") return truthy(left) ? this.evaluate(node.right, scope) : left;
    if (op === "or") return truthy(left) ? left : this.evaluate(node.right, scope);
    return operate(op, left, this.evaluate(node.right, scope));
  },
  evaluateMemberExpression(node, scope) {
    const object = this.evaluate(node.object, scope);
    const { property, computed } = node;
    if (computed && property.type === "SliceExpression") return this.evaluateSliceExpression(object, property, scope);
    if (computed) return member(object, this.evaluate(property, scope), false);
    return member(object, property.type === "IntegerLiteral" ? int(property.value) : text(property.value), true);
  },
  evaluateSliceExpression(object, node, scope) {
    const end = (n) => (n ? whole(this.evaluate(n, scope), null) : null);
    const [start, stop, step] = [end(node.start), end(node.stop), end(node.step)];
    if (isArray(object)) return new object.constructor(sliced(object.value, start, stop, step ?? 1));
    if (!isString(object)) fail(`${object.type} cannot be sliced`);
    const part = sliced(points(object.value), start, stop, step ?? 1);
    return text(typeof part === "string" ? part : part.join(""));
  },
  evaluateTestExpression(node, scope) {
    return bool(Boolean(testNamed(node.test.value)(this.evaluate(node.operand, scope))) !== node.negate);
  },
  applyFilter(operand, node, scope) {
    if (node.type !== "CallExpression") return applyNamed(node.value, operand, []);
    const [args, keywords] = this.evaluateArguments(node.args, scope);
    if (keywords.size) args.push(new KeywordArgumentsValue(keywords));
    return applyNamed(node.callee.value, operand, args);
  },
  evaluateFor(node, scope) {
    const select = node.iterable.type === "SelectExpression" ? node.iterable : null;
    const items = elements(this.evaluate(select ? select.lhs : node.iterable, scope)).filter((item) => {
      if (!select) return true;
      const inner = childOf(scope);
      assign(node.loopvar, item, inner);
      return truthy(this.evaluate(select.test, inner));
    });
    if (items.length === 0) return this.evaluateBlock(node.defaultBlock, scope);
    const out = [];
    const state = {};
    for (let i = 0; i < items.length; ++i) {
      const inner = childOf(scope);
      inner.variables.set("loop", loopVariable(items, i, state));
      assign(node.loopvar, items[i], inner);
      try {
        out.push(this.evaluateBlock(node.body, inner).value);
      } catch (e) {
        if (!isControl(e)) throw e;
        out.push(e.before ?? "");
        if (e instanceof BreakControl) break;
      }
    }
    return text(out.join(""));
  },
  // A macro sees the scope that it was written in, not the caller's.
  evaluateMacro(node, scope) {
    const special = findAccessedSpecialMacroArguments(node.args, node.body);
    scope.setVariable(node.name.value, new FunctionValue((args, site) => {
      const inner = childOf(scope);
      const caller = site?.variables.get("caller");
      if (caller) inner.variables.set("caller", caller);
      this.bindMacroArguments("", node.args, special, args, inner);
      if (special.has("varargs")) inner.setVariable("varargs", new TupleValue(inner.variables.get("varargs").value));
      return this.evaluateBlock(node.body, inner);
    }));
    return NONE;
  },
});

// Linear replacements for the bundle's expressions; {% generation %} marks text for training and prints nothing itself.
preprocess = function (source) {
  return source.replace(/\r\n?/g, "\n").replace(/\n$/, "").replace(/^[ \t]+(?=\{(?:%(?!\+)|#))/gm, "")
    .replace(/\{%\+/g, "{%").replace(/([%#]\})\n/g, "$1")
    .replace(/\{%(-?)\s*(?:end)?generation\s*(-?)%\}/g, "{#$1 $2#}");
};
// Python keeps the backslash of an escape that it does not know.
ESCAPE_CHARACTERS.get = (c) => Map.prototype.get.call(ESCAPE_CHARACTERS, c) ?? "\\" + c;

// ---- the door to C
const GLOBALS = [
  ["true", bool(true)], ["false", bool(false)], ["none", NONE],
  ["True", bool(true)], ["False", bool(false)], ["None", NONE],
  ["namespace", new Environment().variables.get("namespace")],
  ["dict", new FunctionValue((args) => new ObjectValue(new Map(args.at(-1)?.value ?? [])))],
  ["range", new FunctionValue((args) => {
    const ends = args.map((v) => (v instanceof IntegerValue ? v.value : fail("range: not an integer")));
    const [from, to] = ends.length > 1 ? ends : [0, ends[0]];
    if (Math.abs((to - from) / (ends[2] ?? 1)) > MAX_RANGE) overLimit("its range is too long");
    return list(range(...ends).map(int));
  })],
  ["strftime_now", new FunctionValue((args) => text(globalThis.strftime(string(args[0]))))],
  ["raise_exception", new FunctionValue((args) => {
    throw Object.assign(new Error(str(args[0] ?? UNDEFINED)), { raised: true });
  })],
];

// C gives objects as {pairs: [name, value, ...]}, which keeps their order, and reals as {real: number}.
function wrap(v) {
  if (v === null) return NONE;
  if (Array.isArray(v)) return list(v.map(wrap));
  switch (typeof v) {
    case "string": return text(v);
    case "boolean": return bool(v);
    case "object": break;
    default: return int(v);
  }
  if (v.real !== undefined) return new FloatValue(v.real);
  const map = new Map();
  for (let i = 0; i < v.pairs.length; i += 2) map.set(v.pairs[i], wrap(v.pairs[i + 1]));
  return new ObjectValue(map);
}
function run(program, variables) {
  const scope = childOf(null);
  for (const [name, value] of GLOBALS) scope.variables.set(name, value);
  for (const [name, value] of variables) scope.variables.set(name, value);
  return new Interpreter(scope).run(program).value;
}
// Some templates (of models that also see) understand only lists of parts: shown by what becomes of a small message.
function wantsParts(program) {
  const mark = "nebulus probe";
  const shows = (content) => {
    const message = new ObjectValue(new Map([["role", text("user")], ["content", content]]));
    try {
      return run(program, [["messages", list([message])], ["tools", NONE]]).includes(mark);
    } catch {
      return false;
    }
  };
  return !shows(text(mark)) && shows(parts(text(mark)));
}
const parts = (content) => list([new ObjectValue(new Map([["type", text("text")], ["text", content]]))]);

globalThis.nebulus = {
  compile: (source) => ({ program: parse(tokenize(source)), wantsParts: null }),
  render(template, variables) {
    const given = wrap(variables).value;
    template.wantsParts ??= wantsParts(template.program);
    for (const message of template.wantsParts ? given.get("messages").value : []) {
      const content = message.value.get("content");
      if (content && isString(content)) message.value.set("content", parts(content));
    }
    const out = run(template.program, given);
    return out.length > MAX_STRING ? overLimit("it makes too long a text") : out;
  },
};

// npm's `openai` against a real daemon that serves a recall model: what a client in the field does, and what it must get back.
// usage: openai_test.mjs RANDOM_MODEL.gguf, under with_daemon.py, which gives NEBULUS_TEST_URL and NEBULUS_TEST_MODEL. The daemon
// must have ctx=1024, parallel=4, queue=8. The random model is for what needs a model in doubt: seeds, logit_bias.
import assert from 'node:assert/strict';
import test from 'node:test';
import OpenAI from 'openai';

const url = process.env.NEBULUS_TEST_URL;
const model = process.env.NEBULUS_TEST_MODEL;
const client = new OpenAI({ apiKey: process.env.NEBULUS_TEST_KEY, baseURL: `${url}/v1`, maxRetries: 0, timeout: 120_000 });

const passage =
    'The harbour master kept a ledger of every ship that passed the lighthouse after dark, noting tide, wind and cargo.';
const document = `Preface. ${passage} On the eleventh day a brig came in without lanterns. `;
const cue = passage.slice(0, 48);
const rest = passage.slice(48, 48 + 24);
const greedy = { model, prompt: document + cue, max_tokens: 24, temperature: 0 };

const random = { model: await loaded(process.argv[2]), prompt: [300, 301, 302], max_tokens: 16 };

// Loads a model by its path and returns the name it goes by.
async function loaded(path) {
    const answer = await fetch(`${url}/nebulus/v1/load`, { method: 'POST', body: JSON.stringify({ model: path }) });
    const last = JSON.parse((await answer.text()).trim().split('\n').at(-1));
    assert.equal(last.state, 'ready', JSON.stringify(last));
    return last.model.name;
}

const status = async () => (await fetch(`${url}/nebulus/v1/status`)).json();
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// Polls until the daemon neither holds a request nor computes a sequence.
async function idle() {
    for (const end = Date.now() + 60_000; Date.now() < end; await sleep(20)) {
        const s = await status();
        if (s.requests.active === 0 && s.models.every((m) => m.stats.running === 0 && m.stats.waiting === 0)) return s;
    }
    assert.fail(`still busy: ${JSON.stringify(await status())}`);
}

async function refused(promise, code) {
    try {
        await promise;
    } catch (e) {
        assert.ok(e instanceof OpenAI.APIError, String(e));
        assert.equal(e.status, code);
        assert.equal(typeof e.error.message, 'string');
        assert.equal(typeof e.error.type, 'string');
        assert.ok(e.headers.get('x-request-id'));
        return e;
    }
    return assert.fail(`accepted, not refused with ${code}`);
}

test('a completion recalls the passage, and counts its tokens', async () => {
    const answer = await client.completions.create(greedy);
    assert.equal(answer.object, 'text_completion');
    assert.equal(answer.model, model);
    assert.equal(answer.choices.length, 1);
    assert.equal(answer.choices[0].text, rest);
    assert.equal(answer.choices[0].finish_reason, 'length');
    assert.equal(answer.usage.completion_tokens, 24);
    assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + 24);
    assert.ok(answer.usage.prompt_tokens > 100);
    assert.ok(Math.abs(answer.created - Date.now() / 1000) < 3600);
});

test('a streamed completion says the same, piece by piece', async () => {
    let text = '', chunks = 0, finish = null;
    for await (const c of await client.completions.create({ ...greedy, stream: true })) {
        assert.equal(c.choices[0].index, 0);
        text += c.choices[0].text;
        finish = c.choices[0].finish_reason ?? finish;
        chunks++;
    }
    assert.equal(text, rest);
    assert.equal(finish, 'length');
    assert.ok(chunks > 5, `${chunks} chunks are no stream`);
});

test('a chat answers, whole and streamed alike', async () => {
    const body = { model, temperature: 0, max_tokens: 20, messages: [{ role: 'system', content: document },
        { role: 'user', content: [{ type: 'text', text: cue }] }] };
    const whole = await client.chat.completions.create(body);
    assert.equal(whole.object, 'chat.completion');
    assert.equal(whole.choices[0].message.role, 'assistant');
    assert.ok(whole.choices[0].message.content.length > 0);
    let text = '', roles = [], usage = null, finish = null, last = null;
    const streamed = { ...body, stream: true, stream_options: { include_usage: true } };
    for await (const c of await client.chat.completions.create(streamed)) {
        assert.ok(Array.isArray(c.choices));
        if (c.choices.length) {
            text += c.choices[0].delta.content ?? '';
            if (c.choices[0].delta.role) roles.push(c.choices[0].delta.role);
            finish = c.choices[0].finish_reason ?? finish;
        }
        usage = c.usage ?? usage;
        last = c;
    }
    assert.equal(text, whole.choices[0].message.content);
    assert.deepEqual(roles, ['assistant']);
    assert.equal(finish, whole.choices[0].finish_reason);
    assert.deepEqual(last.choices, []);
    assert.equal(usage.prompt_tokens, whole.usage.prompt_tokens);
    assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
});

test("the client library's own stream helper assembles the message", async () => {
    const messages = [{ role: 'user', content: passage }];
    const stream = client.chat.completions.stream({ model, temperature: 0, max_tokens: 8, messages });
    const final = await stream.finalChatCompletion();
    assert.equal(final.choices[0].message.role, 'assistant');
    assert.ok(['stop', 'length'].includes(final.choices[0].finish_reason));
});

test('a stream without stream_options carries no usage', async () => {
    for await (const c of await client.completions.create({ ...greedy, stream: true })) assert.ok(!c.usage);
});

test('a client that leaves in mid-stream frees its sequence', async () => {
    const stream = await client.completions.create({ ...greedy, max_tokens: 700, ignore_eos: true, stream: true });
    for await (const c of stream) {
        if (c.choices[0].text) break; // leaving the loop aborts the request
    }
    stream.controller.abort();
    const s = await idle();
    assert.equal(s.models.find((m) => m.name === model).stats.cells_used, 0);
    assert.equal((await client.completions.create(greedy)).choices[0].text, rest);
});

test('a client that leaves before the answer frees its sequence, too', async () => {
    const leave = new AbortController();
    const answer = client.completions.create({ ...greedy, max_tokens: 700, ignore_eos: true }, { signal: leave.signal });
    while (!(await status()).requests.active) await sleep(5);
    leave.abort();
    await assert.rejects(answer, OpenAI.APIUserAbortError);
    await idle();
});

test('stop strings end the text before themselves', async () => {
    const at = rest.slice(10, 14);
    const answer = await client.completions.create({ ...greedy, stop: at });
    assert.equal(answer.choices[0].text, rest.slice(0, rest.indexOf(at)));
    assert.equal(answer.choices[0].finish_reason, 'stop');
    const two = await client.completions.create({ ...greedy, stop: ['never to be seen', at] });
    assert.equal(two.choices[0].text, answer.choices[0].text);
    let text = '';
    for await (const c of await client.completions.create({ ...greedy, stop: [at], stream: true })) text += c.choices[0].text;
    assert.equal(text, answer.choices[0].text);
});

test('the same seed gives the same text; other seeds give others', async () => {
    const texts = [];
    for (const seed of [7, 7, 8, 9, -1]) {
        const answer = await client.completions.create({ ...random, temperature: 1, seed });
        texts.push(answer.choices[0].text);
    }
    assert.equal(texts[0], texts[1]);
    assert.equal(new Set(texts).size, 4);
    const drawn = await client.completions.create(random); // no seed: the answer names the one that was drawn
    const again = await client.completions.create({ ...random, seed: drawn.nebulus.seed });
    assert.equal(again.choices[0].text, drawn.choices[0].text);
});

test('logit_bias forces and forbids tokens', async () => {
    const body = { ...random, max_tokens: 4, temperature: 0 };
    const say = async (logit_bias) => (await client.completions.create({ ...body, logit_bias })).choices[0].text;
    const forced = await say({ 400: 100 });
    assert.equal(forced, forced.slice(0, forced.length / 4).repeat(4));
    assert.notEqual(await say({}), forced);
    const all_others = Object.fromEntries(Array.from({ length: 512 }, (_, id) => [id, -100]).filter(([id]) => id !== 400));
    assert.equal(await say(all_others), forced);
});

test('what cannot be done is refused with the name of the member', async () => {
    const messages = [{ role: 'user', content: 'hi' }];
    const bad = [
        ['n', { messages, n: 2 }], ['temperature', { messages, temperature: 'hot' }],
        ['temperature', { messages, temperature: -1 }],
        ['top_p', { messages, top_p: 1.5 }], ['max_tokens', { messages, max_tokens: 'many' }],
        ['stop', { messages, stop: { a: 1 } }],
        ['messages', { messages: 'hi' }], ['messages', {}], ['messages', { messages: [] }], ['seed', { messages, seed: 'x' }],
        ['stream', { messages, stream: 'yes' }], ['logit_bias', { messages, logit_bias: { a: 1 } }],
        ['logprobs', { messages, logprobs: true }],
    ];
    for (const [param, body] of bad) {
        const e = await refused(client.chat.completions.create({ model, ...body }), 400);
        assert.ok(e.param?.startsWith(param), `${JSON.stringify(body)}: param ${e.param}: ${e.message}`);
        assert.equal(e.type, 'invalid_request_error');
    }
});

test('a prompt beyond the context is refused before it is computed', async () => {
    const e = await refused(client.completions.create({ ...greedy, prompt: passage.repeat(20) }), 400);
    assert.match(e.message, /context/i);
    assert.match(e.code ?? '', /context_length_exceeded|limit/);
    const streamed = await refused(client.completions.create({ ...greedy, prompt: passage.repeat(20), stream: true }), 400);
    assert.equal(streamed.code, e.code);
});

test('an unknown model is a 404 that names the member', async () => {
    const messages = [{ role: 'user', content: 'hi' }];
    const e = await refused(client.chat.completions.create({ model: 'gpt-nothing', messages }), 404);
    assert.ok(e instanceof OpenAI.NotFoundError);
    assert.equal(e.param, 'model');
});

test('models are listed and retrieved', async () => {
    const ids = [];
    for await (const m of client.models.list()) {
        assert.equal(m.object, 'model');
        ids.push(m.id);
    }
    assert.ok(ids.includes(model));
    assert.equal((await client.models.retrieve(model)).id, model);
    await refused(client.models.retrieve('not/there'), 404);
});

test('eight clients at once all get the passage', async () => {
    const answers = await Promise.all(Array.from({ length: 8 }, () => client.completions.create(greedy)));
    for (const a of answers) assert.equal(a.choices[0].text, rest);
    assert.equal(new Set(answers.map((a) => a.id)).size, 8);
});

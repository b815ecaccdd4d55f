// OpenAI's JavaScript client, unmodified, as a program would use it.

import OpenAI from "openai";

import { asked, collected, functions, run } from "./runner.mjs";

const options = { baseURL: `${process.env.RKLLAMA_URL}/v1`, apiKey: "unused", maxRetries: 0 };
const client = new OpenAI(options);
const tools = functions.map((each) => ({ type: "function", function: each }));
const flat = functions.map((each) => ({ type: "function", strict: false, ...each }));

async function failed(call) {
  try {
    await call();
  } catch (error) {
    const retryAfter = error.headers?.get("retry-after") ?? null;
    return { kind: error.constructor.name, status: error.status, error: error.error, retryAfter };
  }
  return null;
}

await run({
  chat: () => client.chat.completions.create({ model: "plain", messages: asked("Say hello.") }),

  chatStreamed: async () =>
    collected(
      await client.chat.completions.create({
        model: "plain",
        messages: asked("Say hello."),
        stream: true,
        stream_options: { include_usage: true },
      }),
    ),

  toolsStreamed: async () => {
    const stream = client.chat.completions.stream({
      model: "able",
      messages: asked("Do both."),
      tools,
      reasoning_effort: "none",
    });
    return (await stream.finalChatCompletion()).choices[0];
  },

  // The client's own loop of calls and results.
  toolsRun: async () => {
    const runner = client.chat.completions.runTools({
      model: "able",
      messages: asked("What is three and five?"),
      reasoning_effort: "none",
      tools: functions.map((each) => ({
        type: "function",
        function: { ...each, parse: JSON.parse, function: ({ a, b }) => String(a + b) },
      })),
    });
    return runner.finalContent();
  },

  structured: async () => {
    const schema = {
      type: "object",
      properties: { name: { type: "string" }, born: { type: "integer" } },
      required: ["name", "born"],
      additionalProperties: false,
    };
    const answer = await client.chat.completions.parse({
      model: "plain",
      messages: asked("JSON, please."),
      response_format: { type: "json_schema", json_schema: { name: "person", schema, strict: true } },
    });
    return answer.choices[0].message.parsed;
  },

  responses: () => client.responses.create({ model: "plain", input: "Say hello." }),

  responsesStreamed: async () => {
    const stream = client.responses.stream({
      model: "able",
      input: "Do both.",
      tools: flat,
      reasoning: { effort: "none" },
    });
    const events = [];
    for await (const event of stream) events.push(event.type);
    return { events, final: await stream.finalResponse() };
  },

  embeddings: async () => {
    const input = ["one", "two"];
    const floats = await client.embeddings.create({ model: "plain", input, encoding_format: "float" });
    // Without a format, this client asks for base64 and decodes it.
    const decoded = await client.embeddings.create({ model: "plain", input });
    return {
      floats: floats.data.map((each) => each.embedding),
      decoded: decoded.data.map((each) => Array.from(each.embedding)),
    };
  },

  models: async () => ({
    listed: (await collected(await client.models.list())).map((model) => model.id).sort(),
    one: await client.models.retrieve("able"),
  }),

  aborted: async () => {
    const stream = await client.chat.completions.create({
      model: "endless",
      messages: asked("Go."),
      stream: true,
    });
    let seen = 0;
    for await (const _ of stream) if (++seen === 3) stream.controller.abort();
    const next = await client.chat.completions.create({
      model: "plain",
      messages: asked("Say hello."),
    });
    return { seen, next: next.choices[0].message.content };
  },

  errors: async () => ({
    missing: await failed(() =>
      client.chat.completions.create({ model: "nobody", messages: asked("Hello?") }),
    ),
    bad: await failed(() =>
      client.chat.completions.create({ model: "plain", messages: asked("Hello?"), n: 2 }),
    ),
    streamed: await failed(() =>
      client.responses.create({ model: "nobody", input: "Hello?", stream: true }),
    ),
  }),

  // One answer runs, one waits, and the queue has no more room.
  busy: async () => {
    const ask = (leaving) =>
      client.chat.completions.create(
        { model: "endless", messages: asked("Go."), stream: true },
        { signal: leaving.signal },
      );
    const [first, second] = [new AbortController(), new AbortController()];
    const running = await ask(first);
    const waiting = ask(second).catch((error) => error.constructor.name);
    const queued = async () => {
      const answer = await fetch(`${process.env.RKLLAMA_URL}/api/ps`);
      return (await answer.json()).queue?.length;
    };
    while (!(await queued()));
    const refused = await failed(() => ask(new AbortController()));
    second.abort();
    running.controller.abort();
    return { refused, waiting: await waiting };
  },

  locked: async () => {
    const known = new OpenAI({ ...options, apiKey: process.env.RKLLAMA_TEST_KEY });
    return {
      refused: await failed(() => client.models.list()),
      answered: await collected(await known.models.list()),
    };
  },
});

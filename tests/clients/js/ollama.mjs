// ollama-js, unmodified, as a program would use it.

import { Ollama } from "ollama";

import { asked, collected, functions, run } from "./runner.mjs";

const client = new Ollama({ host: process.env.RKLLAMA_URL });
const tools = functions.map((each) => ({ type: "function", function: each }));

async function failed(call) {
  try {
    await call();
  } catch (error) {
    return { name: error.name, status: error.status_code, error: error.error };
  }
  return null;
}

await run({
  chat: () => client.chat({ model: "plain", messages: asked("Say hello.") }),

  chatStreamed: async () =>
    collected(await client.chat({ model: "plain", messages: asked("Say hello."), stream: true })),

  generate: () => client.generate({ model: "plain", prompt: "Say hello." }),

  generateStreamed: async () =>
    collected(await client.generate({ model: "plain", prompt: "Say hello.", stream: true })),

  listAndShow: async () => ({
    names: (await client.list()).models.map((model) => model.name).sort(),
    shown: await client.show({ model: "able" }),
    version: await client.version(),
  }),

  ps: async () => {
    await client.chat({ model: "plain", messages: [], keep_alive: "5m" });
    const loaded = await client.ps();
    await client.chat({ model: "plain", messages: [], keep_alive: 0 });
    return { loaded: loaded.models, after: (await client.ps()).models };
  },

  embed: () => client.embed({ model: "plain", input: ["one", "two"] }),

  tools: async () => {
    const messages = asked("What is three and five?");
    const parts = await collected(
      await client.chat({ model: "able", messages, tools, think: false, stream: true }),
    );
    const calls = parts.flatMap((part) => part.message.tool_calls ?? []);
    messages.push({ role: "assistant", content: "", tool_calls: calls });
    for (const { function: { name, arguments: { a, b } } } of calls)
      messages.push({ role: "tool", tool_name: name, content: String(a + b) });
    const last = await client.chat({ model: "able", messages, tools, think: false });
    return { calls, text: last.message.content };
  },

  thinking: async () =>
    collected(
      await client.chat({ model: "able", messages: asked("Think."), think: true, stream: true }),
    ),

  // The model never ends by itself: what comes after must not wait for it.
  aborted: async () => {
    let seen = 0;
    const error = await failed(async () => {
      const stream = await client.chat({ model: "endless", messages: asked("Go."), stream: true });
      for await (const _ of stream) if (++seen === 3) client.abort();
    });
    const next = await client.chat({ model: "plain", messages: asked("Say hello.") });
    return { seen, error, next: next.message.content };
  },

  created: async () => {
    const progress = await collected(
      await client.create({ model: "mario", from: "plain", system: "Be told.", stream: true }),
    );
    await client.copy({ source: "mario", destination: "luigi" });
    const told = await client.chat({ model: "luigi", messages: asked("So?") });
    const deleted = [await client.delete({ model: "mario" }), await client.delete({ model: "luigi" })];
    const names = (await client.list()).models.map((model) => model.name);
    return { progress, told: told.message.content, deleted, names };
  },

  errors: async () => ({
    missing: await failed(() => client.chat({ model: "nobody", messages: asked("Hello?") })),
    streamed: await failed(() =>
      client.chat({ model: "nobody", messages: asked("Hello?"), stream: true }),
    ),
    noTools: await failed(() => client.chat({ model: "plain", messages: asked("Hello?"), tools })),
    deleted: await failed(() => client.delete({ model: "nobody" })),
  }),
});

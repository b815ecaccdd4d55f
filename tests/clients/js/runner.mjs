// Runs one scenario by its name and prints what it returns, as JSON, for a test to judge.

export async function run(scenarios) {
  const scenario = scenarios[process.argv[2]];
  if (!scenario) throw new Error(`no scenario ${process.argv[2]}`);
  process.stdout.write(JSON.stringify(await scenario()));
}

export async function collected(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
}

export const asked = (content) => [{ role: "user", content }];

const parameters = {
  type: "object",
  properties: { a: { type: "integer" }, b: { type: "integer" } },
  required: ["a", "b"],
};

export const functions = ["add", "multiply"].map((name) => ({ name, parameters }));

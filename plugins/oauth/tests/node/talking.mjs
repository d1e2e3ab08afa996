// How a test and a program talk: lines of JSON, the program's on its standard output, the test's on its standard input.
import { createInterface } from "node:readline";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

export const told = JSON.parse(process.argv[2]);

export function say(what) {
  process.stdout.write(JSON.stringify(what) + "\n");
}

export async function ask(what) {
  say(what);
  return JSON.parse((await lines.next()).value);
}

export function check(condition, what) {
  if (!condition) throw new Error(`not so: ${what}`);
}

export async function fails(promise, code) {
  try {
    await promise;
  } catch (error) {
    const found = error.error ?? error.cause?.error ?? error.code ?? error.message;
    check(found === code, `${found} is ${code}`);
    return;
  }
  throw new Error(`nothing failed where ${code} was expected`);
}

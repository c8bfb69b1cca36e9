// node run.mjs CLIENT URL: print the data of each event, one a line, until the client has done.

// What @microsoft/fetch-event-source takes for granted in a browser.
globalThis.window = globalThis;
globalThis.document = { removeEventListener() {} };

const [client, url] = process.argv.slice(2);
const { follow } = await import(`./${client}.mjs`);
await follow(url, (event) => process.stdout.write(`${event.data}\n`));

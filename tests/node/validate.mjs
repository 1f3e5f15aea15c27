// Takes {document, payloads: [[message, payload], …]} on stdin. Has the AsyncAPI project's own parser read the document,
// and holds the payloads, and the document's own examples, against the schemas of their messages, which the parser
// doesn't. Prints what was found as JSON.
import { readFileSync } from 'node:fs';
import { Parser } from '@asyncapi/parser';
import Ajv from 'ajv';

const { document: given, payloads = [] } = JSON.parse(readFileSync(0, 'utf8'));
const { document, diagnostics } = await new Parser().parse(JSON.stringify(given));
const found = diagnostics.map(({ severity, code, message, path }) => ({ severity, code, message, path: path.join('.') }));
const operations = document?.operations().all().map((operation) => ({
  id: operation.id(),
  action: operation.action(),
  addresses: operation.channels().all().map((channel) => channel.address()),
  replies: operation.reply() ? operation.reply().messages().all().map((message) => message.name()) : [],
})) ?? [];

const messages = given.components.messages;
const examples = Object.entries(messages).flatMap(([key, { examples = [] }]) => examples.map((one) => [key, one.payload]));
const ajv = new Ajv({ strict: false, validateFormats: false });
const check = ([key, payload]) => {
  const fits = ajv.compile({ $ref: `document${messages[key].payload.$ref}` });
  return { message: key, errors: fits(payload) ? [] : fits.errors.map((error) => `${error.instancePath} ${error.message}`) };
};
let checked = [];
if (document) {
  ajv.addSchema(given, 'document');
  checked = [...examples, ...payloads].map(check);
}
console.log(JSON.stringify({ found, operations, checked, version: document?.version() ?? null }));

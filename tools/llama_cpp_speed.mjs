// Seconds that llama.cpp takes to write one text, by the clock and of the processor: a job as JSON on standard input.
// The folder in EPIGONE_NODE_LLAMA is the one in which `npm install node-llama-cpp` was run.

import {readFileSync} from 'node:fs';
import {pathToFileURL} from 'node:url';

const place = `${process.env.EPIGONE_NODE_LLAMA}/node_modules/node-llama-cpp/dist/index.js`;
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(place));
const job = JSON.parse(readFileSync(0, 'utf8'));
const llama = await getLlama({gpu: false, build: 'never', maxThreads: job.threads, logLevel: LlamaLogLevel.error});
const model = await llama.loadModel({modelPath: job.model});
const context = await model.createContext({contextSize: model.trainContextSize, threads: job.threads});
const sequence = context.getSequence();

async function write(length) {
  await sequence.clearHistory();
  const options = {temperature: job.temperature, topP: job.topP, topK: 0, minP: 0, yieldEogToken: true};
  let count = 0;
  for await (const _ of sequence.evaluate(model.tokenize(job.prompt), options)) if (++count === length) break;
  if (count !== length) throw new Error('llama.cpp wrote another number of tokens than asked');
}

await write(job.warmUp);
const began = performance.now(), used = process.cpuUsage();
await write(job.length);
const {user, system} = process.cpuUsage(used);
console.log(JSON.stringify([(performance.now() - began) / 1e3, (user + system) / 1e6]));
process.exit(0);  // without waiting for llama.cpp's threads

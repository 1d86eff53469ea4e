// What llama.cpp makes of a GGUF file: a job as JSON on standard input, answers as JSON in the file that is named.
// The folder in EPIGONE_NODE_LLAMA is the one in which `npm install node-llama-cpp` was run.

import {readFileSync, writeFileSync} from 'node:fs';
import {pathToFileURL} from 'node:url';

const place = `${process.env.EPIGONE_NODE_LLAMA}/node_modules/node-llama-cpp/dist/index.js`;
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(place));
const {model: path, lines = [], scored = [], prompts = [], length = 0} = JSON.parse(readFileSync(0, 'utf8'));
const llama = await getLlama({gpu: false, build: 'never', maxThreads: 1, logLevel: LlamaLogLevel.error});
const model = await llama.loadModel({modelPath: path});
const context = await model.createContext({contextSize: model.trainContextSize, batchSize: 64, flashAttention: false, experimentalKvCacheKeyType: 'F32', experimentalKvCacheValueType: 'F32'});
const sequence = context.getSequence();

async function score(ids) {  // log-probabilities of each token after the first
  await sequence.clearHistory();
  const next = {probabilities: true, options: {temperature: 1, topK: 0, topP: 1, minP: 0}};
  const found = await sequence.controlledEvaluate(ids.slice(0, -1).map(id => [id, {generateNext: next}]));
  return found.map((each, place) => Math.log(each.next.probabilities.get(ids[place + 1])));
}

async function write(ids) {  // the likeliest token each time
  await sequence.clearHistory();
  const written = [];
  const options = {temperature: 0, yieldEogToken: true};
  for await (const token of sequence.evaluate(ids, options)) {
    written.push(token);
    if (written.length === length) break;
  }
  return {ids: written, text: model.detokenize(written)};
}

const answer = {
  context: model.trainContextSize,
  bos: model.tokens.bos, eos: model.tokens.eos, adds_bos: model.tokens.shouldPrependBosToken,
  ids: lines.map(line => model.tokenize(line)),
  scores: [], written: [],
};
for (const ids of scored) answer.scores.push(await score(ids));
for (const ids of prompts) answer.written.push(await write(ids));
writeFileSync(process.argv[2], JSON.stringify(answer));
process.exit(0);  // without waiting for llama.cpp's threads

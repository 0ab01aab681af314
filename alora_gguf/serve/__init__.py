"""`alora serve`: an HTTP server that speaks OpenAI's, Anthropic's and Ollama's APIs, on the engine's continuous batching.

server        the process: listens, and drains on SIGTERM
app           the routes
incoming      what is done with every request before a route sees it: keys, origins, sizes, hang-ups
encoding      bodies that a client compressed
body          the JSON bodies, and what of them is refused
prompt        messages to tokens, with the adapter's start among them
generation    the choices of one request, generated together
gate          how many may run and how many may wait
answer        replies in OpenAI's shape
events        answers that come in parts
fields        what is done with each field of a request
chat, completions, models, adapters, embeddings, tokens, extract   the endpoints
ollama/       Ollama's endpoints, whose requests become those of chat
door          what other shapes of a chat share: responses (OpenAI's), messages (Anthropic's)
decisions     typed questions, in two shapes
problem       errors in each API's shape
metrics       what Prometheus reads
web           the page at /, whose files are in page/

Starlette carries it: a router, requests and streamed responses, with nothing between them and ASGI;
pydantic checks the bodies, uvicorn listens.
"""

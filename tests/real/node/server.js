const polka = require('polka');
const options = require('mri')(process.argv.slice(2), { default: { port: 3000 } });

polka()
  .get('/hello/:name', (request, response) => response.end(`Hello, ${request.params.name}\n`))
  .listen(options.port);

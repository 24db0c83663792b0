const ms = require('ms')
const isOdd = require('is-odd')
console.log(`a day has ${ms('1d')} ms, and 3 is ${isOdd(3) ? 'odd' : 'even'}`)

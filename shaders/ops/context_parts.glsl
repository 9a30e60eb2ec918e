// How many keys a part of the context has: equal parts of what is there now, so that a short context in a long cache is spread
// as well as its length allows. Parts from ceil(keys / length) on are empty.
uint part_length(uint keys, uint splits, uint shortest) { return max((keys + splits - 1) / splits, shortest); }

"""The ladder: real data, one lever of saving a rung, every rung really trained and really measured."""

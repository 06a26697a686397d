"""Pure API machinery: kinds, schemas, defaults, validation, patches, apply, tables. No I/O."""

"""Programs as pictures: `sheet` says what stands where, `svg` and `page` write it."""

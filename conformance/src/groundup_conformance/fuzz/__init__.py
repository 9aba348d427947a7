"""The track `fuzz`: programs that nobody would write, made at random, judged op by op."""

"""What a backend must stand beside computing rightly: faults, threads, long use, odd programs."""

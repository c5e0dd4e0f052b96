"""`make demo`: generates audio for one rendered video with a whole platform on this machine."""

"""Tables and the way to them. Only `jobs.service` writes; everybody may read through its queries."""

"""``adapt tune``, in parts: what is searched, on which tasks, what is tried next, and what is reported."""

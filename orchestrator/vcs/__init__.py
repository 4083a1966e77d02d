"""Git: the exploration's own repository."""

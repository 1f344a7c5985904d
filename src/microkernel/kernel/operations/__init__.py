"""Operations on plugins: start, stop, kill, reload."""

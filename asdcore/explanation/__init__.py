"""Where a recording differs from the normal ones of its machine, in dB, Hz and seconds."""

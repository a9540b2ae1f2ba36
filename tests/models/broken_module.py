raise OSError("no such device")

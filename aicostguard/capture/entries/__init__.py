"""One file per SDK family: where one logical call begins and ends, outside its retries."""

"""A campaign of faults: a complete instance runs thousands of jobs while its parts are killed, stopped and cut off."""

"""The pruning study on CamVid with a narrow SwiftNet: two cuts, three starts, three seeds; an hour of one core."""

training = dict(config="rn18_camvid.py", name="study_camvid", checkpoint_every=300)
seeds = (0, 1, 2)
count_size = (300, 400)
